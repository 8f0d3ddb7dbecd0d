"""Checks one envelope and routes it, from the configuration alone."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any, Final

from message_worker_client.envelope import (
    MAX_KEY_BYTES,
    Envelope,
    EnvelopeError,
    parse_envelope,
)
from message_worker_client.envelope.storable import is_storable
from worker.channels.sms.events import E164
from worker.domain.messages import Attachment, ChannelAddress, NewMessage
from worker.domain.reasons import DeadLetterReason
from worker.domain.routing import ChannelPolicy, Routing, UnknownAgentError
from worker.domain.screening.consents import LedgerEntry, ServiceText
from worker.domain.screening.rules import screen
from worker.domain.screening.verdict import Verdict
from worker.domain.text.normal_forms import normalized
from worker.domain.ways_out import TelnyxDelivery
from worker.queue.unwrap import envelope_in

UNSUPPORTED_ATTACHMENT = "unsupported_attachment"
"""Outcome of a message with an attachment other than an image, on a channel that skips those."""
_WHATSAPP_ID: Final = re.compile(r"[A-Z]{2}\.[0-9A-Za-z]{1,128}")
"""Of somebody who hides their number; a reply can be sent to it."""


def parse_and_route(
    document: object,
    routing: Routing,
    *,
    not_before: datetime | None = None,
    expires_at: datetime | None = None,
    task_id: str | None = None,
) -> NewMessage:
    """Check an envelope and choose its agent, from the configuration alone.

    `not_before`, `expires_at`: of the entry around the envelope, whose own fields come first.
    `task_id`: the Celery task that brought it, a UUID. Raises `EnvelopeError`.
    """
    envelope = parse_envelope(document)
    policy = routing.channel(envelope.channel)
    agent = _agent_for(envelope, routing)
    attachments = tuple(
        Attachment(content_type=one.content_type, url=one.url, data=one.data)
        for one in envelope.attachments
    )
    not_before = envelope.not_before or not_before
    # A message that was held back takes its place among those of that later time.
    sent_at = max((at for at in (envelope.sent_at, not_before) if at is not None), default=None)
    # Without a time there is nothing to sort by, and what was held back overtook nothing.
    reorder_s = policy.reorder_s if envelope.sent_at is not None and not_before is None else 0.0
    who = channel_address(envelope, policy)
    verdict = screen(
        envelope.text,
        policy=policy,
        user=who.address,
        recipient=who.recipient,
        signals=envelope.signals,
        has_attachments=bool(attachments),
    )
    return NewMessage(
        who=who,
        message_id=envelope.message_id,
        agent=agent,
        text=envelope.text,
        attachments=attachments,
        reply_to=envelope.reply_to,
        envelope=envelope.as_json(),
        sent_at=sent_at,
        hold_s=max(policy.debounce_s, reorder_s),
        max_wait_s=policy.max_wait_s,
        expires_at=envelope.expires_at or expires_at or _expiry(sent_at, policy),
        not_before=not_before,
        max_pending=policy.max_pending,
        fairness=routing.fairness,
        group=routing.fairness.group_of(who.channel, who.address),
        skip=verdict.outcome if verdict else _unsupported(attachments, policy),
        verdict=verdict,
        scope=policy.scope,
        consent=_consent(verdict, who, routing),
        service=_service_text(verdict, who, envelope.reply_to, routing),
        task_id=task_id,
    )


def _agent_for(envelope: Envelope, routing: Routing) -> str:
    """Return the name of the agent that answers. Raises `EnvelopeError`, for the route too."""
    try:
        agent = routing.agent_for(
            channel=envelope.channel, recipient=envelope.recipient, named=envelope.agent
        )
    except UnknownAgentError:
        fix = "the configuration has none of that name"
        raise EnvelopeError(DeadLetterReason.UNKNOWN_AGENT, "agent", fix) from None
    if not routing.has_route(envelope.reply_to):
        fix = "the agents file has no section [routes.NAME] of that name"
        raise EnvelopeError(DeadLetterReason.UNKNOWN_ROUTE, "reply_to", fix)
    return agent.name


def channel_address(envelope: Envelope, policy: ChannelPolicy) -> ChannelAddress:
    """Return the channel user. Raises `EnvelopeError` if the address does not fit the kind."""
    # Short codes and names of senders are no numbers; nobody answers them.
    is_machine = "auto_reply" in envelope.signals
    return ChannelAddress(
        channel=envelope.channel,
        recipient=envelope.recipient,
        address=address_in(policy, envelope.user, may_be_a_name=is_machine),
        thread=envelope.thread,
    )


def address_in(policy: ChannelPolicy, address: str, *, may_be_a_name: bool = False) -> str:
    """Return an address as this channel writes it. Raises `EnvelopeError` if it does not fit."""
    is_number = may_be_a_name or E164.fullmatch(address) is not None
    is_number = is_number or (_is_whatsapp(policy) and _WHATSAPP_ID.fullmatch(address) is not None)
    if policy.kind == "telephone" and not is_number:
        fix = "on a telephone channel give E.164, such as +13125550001"
        raise EnvelopeError(DeadLetterReason.ENVELOPE_INVALID, "user", fix)
    if policy.kind == "email":
        local, at, domain = address.rpartition("@")
        if not (local and at and domain):
            fix = "on an e-mail channel give an address with one @"
            raise EnvelopeError(DeadLetterReason.ENVELOPE_INVALID, "user", fix)
        # Domains are case-insensitive (RFC 5321 2.4); the part before the @ need not be.
        return f"{local.lower() if policy.ignore_case else local}@{domain.lower()}"
    return address


def _is_whatsapp(policy: ChannelPolicy) -> bool:
    return isinstance(policy.delivery, TelnyxDelivery) and policy.delivery.whatsapp


def names_in(raw: bytes, routing: Routing) -> dict[str, str] | None:
    """Return a refused message's names in `message_outcomes`; None = the bytes lack one."""
    try:
        document = envelope_in(raw)
        envelope = parse_envelope(document)
        who = channel_address(envelope, routing.channel(envelope.channel))
    except LookupError:
        return None
    except EnvelopeError:
        return _names_as_given(document) if isinstance(document, dict) else None
    return who.as_producers_name_it() | {"message_id": envelope.message_id}


def _names_as_given(document: dict[str, Any]) -> dict[str, str] | None:
    names = {"recipient": "", "thread": ""}
    for name in ("channel", "recipient", "user", "thread", "message_id"):
        value = document.get(name, names.get(name))
        if not isinstance(value, str) or not is_storable(value):
            return None
        names[name] = normalized("NFC", value)
        if len(names[name].encode()) > MAX_KEY_BYTES:
            return None
    return names


def _unsupported(attachments: Iterable[Attachment], policy: ChannelPolicy) -> str | None:
    """Return the outcome of a message with an attachment that its channel does not take."""
    refused = policy.other_attachments == "skip" and not all(one.is_image for one in attachments)
    return UNSUPPORTED_ATTACHMENT if refused else None


def _consent(verdict: Verdict | None, who: ChannelAddress, routing: Routing) -> LedgerEntry | None:
    if verdict is None or verdict.consent is None or verdict.source is None:
        return None
    return LedgerEntry(
        person=routing.person_at(who),
        stopped=verdict.consent == "stop",
        source=verdict.source,
        channel=who.channel,
        recipient=who.recipient,
    )


def _service_text(
    verdict: Verdict | None, who: ChannelAddress, reply_to: str | None, routing: Routing
) -> ServiceText | None:
    if verdict is None or verdict.text is None:
        return None
    return routing.delivery_policy(who.channel, reply_to).service_text(verdict.text)


def _expiry(sent_at: datetime | None, policy: ChannelPolicy) -> datetime | None:
    if policy.max_age_s is None or sent_at is None:
        return None
    return sent_at + timedelta(seconds=policy.max_age_s)


_MAX_COMPARED: Final = 50
_MAX_CHARACTERS: Final = 32
_LIKE: Final = 0.7
"""Similarity from which a name may be a typo of another; `recipent` and `recipient` have 0.94."""


def unknown_fields(names: Iterable[str]) -> list[dict[str, str | None]]:
    """Return each name that no envelope has, and the known field that it may be a typo of."""
    known = list(Envelope.model_fields)
    unknown = [name for name in names if name not in Envelope.model_fields]
    # Comparing takes time with the product of both lengths, and strangers choose these names.
    meant = {
        name: get_close_matches(name, known, 1, _LIKE)
        for name in unknown[:_MAX_COMPARED]
        if len(name) <= _MAX_CHARACTERS
    }
    return [{"name": name, "meant": next(iter(meant.get(name, ())), None)} for name in unknown]
