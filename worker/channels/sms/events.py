"""Reads Telnyx's messaging webhooks: any document becomes one of four values, and never an error.

Every field is optional, and several have two shapes (`to`: a string or a list). Sources: the types
`MessagingInboundMessagePayload`, `OutboundMessagePayload`, `WhatsappMessageEcho` and
`EmailEventListResponse` of Telnyx's Python SDK, and its pages on receiving webhooks for messaging
and on events of e-mail.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from uuid import UUID

from message_worker_client.envelope import TIME, VERSION
from message_worker_client.envelope.wire import MAX_ATTACHMENTS
from worker.channels.sms.codes import REPEATABLE
from worker.domain.sms.receipts import Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """Somebody wrote to us. `envelope` lacks the channel, and is not checked yet."""

    whatsapp: bool
    """False = SMS, MMS or RCS."""
    envelope: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """A person of ours wrote to `user` from the WhatsApp Business app."""

    user: str
    recipient: str
    """Our number."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """Nothing to store. `reason` is one of a few fixed words."""

    reason: str


Event: TypeAlias = Inbound | Receipt | Echo | Ignored

_RECEIPTS: Final = {
    "message.sent": "sent",
    "message.finalized": "delivery_unconfirmed",
    "message.read": "read",
}
"""Event type -> the status if the event names none."""
_AUTORESPONSES: Final = {
    **dict.fromkeys(("STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE"), "opt_out"),
    **dict.fromkeys(("CANCEL", "END", "QUIT"), "opt_out"),
    **dict.fromkeys(("START", "UNSTOP"), "opt_in"),
}
_HELP: Final = "help"
"""The signal of any other autoresponse: Telnyx has answered, and nothing has changed."""
E164: Final = re.compile(r"\+[1-9][0-9]{1,14}")
_NO_PLUS: Final = re.compile(r"[1-9][0-9]{9,14}")
"""A number, and no short code."""
_CODE: Final = re.compile(r"[0-9]{1,8}")
_MAX_PARTS: Final = 1000
_URL: Final = re.compile(r"https?://\S{1,8000}")
_UNKNOWN_MEDIUM: Final = "application/octet-stream"


def read_event(document: object, key: UUID | None) -> Event:
    """Return what a webhook's JSON is about; `document` may be any JSON value.

    `key`: the delivery's idempotency key, of the path that the webhook came to.
    """
    data = _object(_object(document).get("data"))
    payload = _object(data.get("payload"))
    match data.get("event_type"):
        case "message.received":
            return _inbound(payload)
        case "message.sent" | "message.finalized" | "message.read" as kind:
            return _receipt(payload, key, _RECEIPTS[kind])
        case "email.sent" | "email.delivered" | "email.bounced" | "email.failed" as kind:
            return _mail_receipt(payload, kind.removeprefix("email."))
        case "message.echo":
            return _echo(payload)
        case "messaging-profile.spend-limit-reached":
            return Ignored("spend_limit")
        case str():
            return Ignored("unknown_type")
        case _:
            return Ignored("no_event")


def event_id(document: object) -> str | None:
    """Return the event's own id for the log, if it has the form of one."""
    found = _text(_object(_object(document).get("data")).get("id"))
    return found if re.fullmatch(r"[0-9a-fA-F-]{8,64}", found) else None


def _inbound(payload: Mapping[str, Any]) -> Inbound:
    body = _object(payload.get("body"))
    kind = _text(payload.get("type")).upper()
    is_whatsapp = kind == "WHATSAPP"
    user = _sender(payload, body)
    recipients = list(_addresses(payload.get("to")))
    recipient = recipients[0] if recipients else ""
    others = {*recipients[1:], *_addresses(payload.get("cc"))} - {user, recipient}
    signals = list(_signals(payload, body))
    if others:
        signals.append("group")
    if not is_whatsapp and not E164.fullmatch(user):
        signals.append("auto_reply")  # a short code, or letters: nobody reads there
    media = list(_media(payload, body))[:MAX_ATTACHMENTS]
    text = _words(payload, body)
    if not (text or media):
        text = " "  # an envelope has some; screening calls it empty
    envelope: dict[str, Any] = {
        "version": VERSION,
        "user": user,
        "recipient": recipient,
        "message_id": _text(payload.get("id")) or _text(body.get("id")),
        "text": text,
        "metadata": {"type": kind[:16] or "SMS"},
    }
    received_at = _text(payload.get("received_at"))
    if TIME.fullmatch(received_at):
        envelope["sent_at"] = received_at
    if signals:
        envelope["signals"] = signals
    if media:
        envelope["attachments"] = media
    return Inbound(whatsapp=is_whatsapp, envelope=envelope)


def _receipt(payload: Mapping[str, Any], key: UUID | None, otherwise: str) -> Receipt:
    errors, to, parts = payload.get("errors"), payload.get("to"), payload.get("parts")
    code = str(_object(errors[0]).get("code")) if isinstance(errors, list) and errors else ""
    error = code if _CODE.fullmatch(code) else None
    status = _text(_object(to[0]).get("status")) if isinstance(to, list) and to else ""
    return Receipt(
        key=key,
        provider_id=_text(payload.get("id")) or None,
        status=status or otherwise,
        error=error,
        parts=parts if type(parts) is int and 0 < parts <= _MAX_PARTS else None,
        # Of WhatsApp these codes mean something else: a template, for instance.
        repeatable=error in REPEATABLE and payload.get("type") != "WHATSAPP",
    )


def _mail_receipt(payload: Mapping[str, Any], status: str) -> Receipt:
    # A domain has one address for the events of all its mails, so only Telnyx's id of the mail
    # leads to a delivery. How a mail failed has codes of its own, which are no codes of SMTP.
    code = str(_object(payload.get("error_evidence")).get("code") or "")
    return Receipt(
        provider_id=_text(payload.get("id")) or _text(payload.get("message_id")) or None,
        status=status,
        error=code if _CODE.fullmatch(code) else None,
    )


def _echo(payload: Mapping[str, Any]) -> Event:
    body = _object(payload.get("body"))
    users = [
        *_addresses(payload.get("to")),
        _text(body.get("from")),
        _text(body.get("from_user_id")),
    ]
    user, recipient = next(filter(None, users), ""), next(_addresses(payload.get("from")), "")
    return Echo(user=user, recipient=recipient) if user and recipient else Ignored("no_address")


def _sender(payload: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    # Of somebody who hides their number there is only the id, which a reply can be sent to.
    given = (*_addresses(payload.get("from")), *_addresses(body.get("from")))
    return next(iter(given), _text(body.get("from_user_id")))


def _signals(payload: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[str]:
    if answered := _text(payload.get("autoresponse_type")).upper():
        yield _AUTORESPONSES.get(answered, _HELP)
    for kind in ("edit", "revoke", "reaction"):
        if body.get("type") == kind or body.get(kind):
            yield kind


def _words(payload: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    """Return what the person wrote: SMS, RCS, WhatsApp, a caption, or a button that they chose."""
    # An edit holds the message as it is now.
    now = _object(_object(body.get("edit")).get("message")) or body
    medium = _object(now.get(_text(now.get("type"))))
    chosen = (_object(one) for one in (medium.get("button_reply"), medium.get("list_reply")))
    return next(
        filter(
            None,
            (
                _text(payload.get("text")),
                _text(now.get("text")),
                _text(_object(now.get("text")).get("body")),
                _text(_object(body.get("suggestion_response")).get("text")),
                _text(medium.get("caption")),
                _text(medium.get("text")),
                *(_text(one.get("title")) for one in chosen),
                _place(_object(now.get("location"))),
            ),
        ),
        "",
    )


def _place(location: Mapping[str, Any]) -> str:
    at = [location.get("latitude"), location.get("longitude")]
    return f"(location: {at[0]}, {at[1]})" if all(type(one) in {int, float} for one in at) else ""


def _media(payload: Mapping[str, Any], body: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yield links: Telnyx keeps the files, and a model that looks at an image gets its link."""
    listed = payload.get("media")
    yield from _medium(listed if isinstance(listed, list) else [], "url", "content_type")
    file = _object(body.get("user_file")).get("payload")
    yield from _medium([file], "file_uri", "mime_type")
    sent = body.get(_text(body.get("type")))
    for link in ("link", "url"):
        yield from _medium([sent], link, "mime_type")


def _medium(listed: list[Any], link: str, kind: str) -> Iterator[dict[str, str]]:
    for one in map(_object, listed):
        if _URL.fullmatch(url := _text(one.get(link))):
            yield {"content_type": _text(one.get(kind))[:255] or _UNKNOWN_MEDIUM, "url": url}


def _addresses(value: object) -> Iterator[str]:
    """Yield addresses from a string, an object, or a list of either."""
    for one in value if isinstance(value, list) else [value]:
        fields = _object(one)
        found = _text(one) or _text(fields.get("phone_number")) or _text(fields.get("agent_id"))
        if found:
            yield f"+{found}" if _NO_PLUS.fullmatch(found) else found


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
