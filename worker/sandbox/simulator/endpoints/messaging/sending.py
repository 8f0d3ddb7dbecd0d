"""POST /messages and GET /messages/{id}: a text message that is queued, and its way to the phone.

queued ──▶ sent ──▶ delivered | delivery_failed        with an event each, in whatever order

Some numbers are magic: `+199900` and a code of five digits. 40001 to 40020 fail after they were
taken, any other code refuses the request: +19990040008, +19990040318.
"""

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from worker.domain.sms.segments import segments
from worker.sandbox.simulator.behaviour.plans import Plan, Posting
from worker.sandbox.simulator.endpoints.answers import Answer, declined, ok
from worker.sandbox.simulator.endpoints.conversations import canonical_uuid
from worker.sandbox.simulator.record.sms import Sms, event_of
from worker.sandbox.simulator.record.values import Json
from worker.sandbox.simulator.state.state import Exchange, State

_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}|[0-9]{5,6}")
"""E.164, or a short code."""
_WHATSAPP_ID = re.compile(r"[A-Z]{2}\.[0-9A-Za-z]+")
_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}")
_MOST_PARTS = 10
_MOST_MEDIA = 10
_WHATSAPP_BYTES = 4096
_MAGIC = re.compile(r"\+199900([0-9]{5})")
_ASYNCHRONOUS = range(40001, 40021)
_STATUSES = {"40300": 403, "40318": 429, "40333": 429, "10011": 429, "10009": 401, "20100": 402}
"""UNCERTAIN but for 40333 and the last three; every other code comes with 422."""


async def told_first(exchange: Exchange) -> None:
    """Wait for the events if they come before the answer."""
    if exchange.plan.posting is Posting.FIRST and exchange.reports is not None:
        await exchange.reports


def create(state: State, exchange: Exchange) -> Answer:
    """POST /messages: 200 and queued. Events follow."""
    body = exchange.payload
    if not isinstance(body, dict):
        return declined("10023", 400, "The request body should be valid JSON.", "/")
    refused = _addressed(state, body) or _by_magic(state, body) or _filled(body)
    if refused is not None:
        return refused
    text, recipient = _text(body), str(body["to"])
    counted = segments(text)
    if counted.parts > _MOST_PARTS and "whatsapp_message" not in body:
        return declined("40302", 400, "The message has too many parts.", "/text")
    if body.get("encoding") == "gsm7" and counted.encoding != "GSM-7":
        return declined("10015", 400, "The text does not fit the encoding.", "/encoding")
    if state.sms.is_opted_out(recipient):
        status = state.config.opted_out_status
        return declined("40300", status, "The recipient has opted out.", "/to")
    sms = Sms(
        id=str(uuid4()),
        direction="outbound",
        sender=str(body.get("from") or "+13125550100"),
        recipient=recipient,
        text=text,
        media=tuple(str(url) for url in body.get("media_urls") or ()),
        encoding=counted.encoding,
        parts=counted.parts,
        status="queued",
        received_at=datetime.now(UTC),
        webhook_url=body.get("webhook_url") or state.config.webhook_url,
        webhook_failover_url=body.get("webhook_failover_url") or state.config.webhook_failover_url,
        whatsapp="whatsapp_message" in body,
    )
    state.sms.put(exchange.number, sms)
    exchange.reports = state.spawn(_carried(state, exchange, sms))
    return ok({"data": {**sms.listed(), "wait_seconds": 0.0}})


def show(state: State, exchange: Exchange) -> Answer:
    """GET /messages/{id}."""
    wanted = canonical_uuid(exchange.path.partition("?")[0].rpartition("/")[2])
    found = state.sms.message(wanted) if wanted else None
    if found is None:
        return declined("10005", 404, "The requested message could not be found.", "/id")
    return ok({"data": found.listed()})


def public_key(state: State, _exchange: Exchange) -> Answer:
    """GET /public_key."""
    return ok({"data": {"public": state.webhooks.public_key}})


async def _carried(state: State, exchange: Exchange, sms: Sms) -> None:
    """Let it reach its recipient or not, and report both to the webhook."""
    plan = exchange.plan
    await asyncio.sleep(state.config.delivery_s)
    sent = replace(sms, status="sent", sent_at=datetime.now(UTC))
    state.sms.put(exchange.number, sent)
    status, code = _final(plan, sms)
    ended = replace(sent, status=status, code=code, completed_at=datetime.now(UTC))
    state.sms.put(exchange.number, ended)
    if plan.posting is Posting.LOST:
        return
    for event in _in_order(state, plan, sent, ended):
        await state.webhooks.deliver(
            event,
            (sms.webhook_url, sms.webhook_failover_url),
            state.config,
            signing="forged" if plan.posting is Posting.FORGED else "good",
        )


def _in_order(state: State, plan: Plan, sent: Sms, ended: Sms) -> list[Json]:
    events = [event_of("message.sent", sent), event_of("message.finalized", ended)]
    order = "reversed" if plan.posting is Posting.REVERSED else state.config.status_order
    if order == "reversed":
        events.reverse()
    copies = state.config.webhook_copies
    if plan.posting is Posting.TWICE:
        copies = max(2, copies)
    events = [event for event in events for _ in range(copies)]
    if order == "random":
        state.dice.shuffle(events)
    return events


def _final(plan: Plan, sms: Sms) -> tuple[str, str | None]:
    magic = _MAGIC.fullmatch(sms.recipient)
    if magic and plan.final_code is None:
        return "delivery_failed", magic[1]
    return plan.final_status, plan.final_code


def _by_magic(state: State, body: Json) -> Answer | None:
    """Return the refusal of a magic number, or of all while the spend limit is reached."""
    magic = _MAGIC.fullmatch(body["to"])
    code = "40333" if state.config.spend_limit_reached else magic[1] if magic else None
    if code is None or int(code) in _ASYNCHRONOUS:
        return None
    return declined(code, _STATUSES.get(code, 422), "The simulator was told to say no.", "/to")


def _text(body: Json) -> str:
    """Return the text of either kind."""
    whatsapp = body.get("whatsapp_message")
    if isinstance(whatsapp, dict):
        text = whatsapp.get("text")
        return str(text.get("body") or "") if isinstance(text, dict) else ""
    return str(body.get("text") or "")


def _addressed(state: State, body: Json) -> Answer | None:
    """Return the refusal of the two numbers; None if both are right."""
    recipient, sender = body.get("to"), body.get("from")
    if recipient is None:
        return declined("10004", 422, "The 'to' parameter is required.", "/to")
    forms = (_NUMBER, _WHATSAPP_ID) if "whatsapp_message" in body else (_NUMBER,)
    if not (isinstance(recipient, str) and any(one.fullmatch(recipient) for one in forms)):
        config = state.config
        detail = "The 'to' address should be in E.164 format."
        return declined(config.bad_number_code, config.bad_number_status, detail, "/to")
    if sender is None and body.get("messaging_profile_id"):
        return None
    if not isinstance(sender, str) or not (_NUMBER.fullmatch(sender) or _NAME.fullmatch(sender)):
        return declined("40305", 422, "The 'from' address is not one of yours.", "/from")
    if not _NUMBER.fullmatch(sender) and not body.get("messaging_profile_id"):
        return declined("40306", 422, "An alphanumeric sender needs a profile.", "/from")
    return None


def _filled(body: Json) -> Answer | None:
    """Return the refusal of the contents; None if they are right."""
    text, media = body.get("text"), body.get("media_urls") or []
    if "whatsapp_message" in body:
        text = _text(body)
        if len(text.encode()) > _WHATSAPP_BYTES:
            return declined("40008", 422, "The text is too long.", "/whatsapp_message")
    if not isinstance(text, str | None):
        return declined("10015", 422, "The 'text' should be a string.", "/text")
    if not isinstance(media, list) or len(media) > _MOST_MEDIA:
        return declined("40317", 422, "The 'media_urls' should be at most ten.", "/media_urls")
    if not text and not media:
        return declined("40316", 422, "The message has no content.", "/text")
    if body.get("send_at") is not None:
        return declined("10015", 422, "The simulator schedules nothing.", "/send_at")
    return None
