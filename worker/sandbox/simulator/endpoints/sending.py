"""POST /messages and GET /messages/{id}: a text message that is queued, and its way to the phone.

queued ──▶ sent ──▶ delivered | delivery_failed        with an event each, in whatever order
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
_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}")
_MOST_PARTS = 10
_MOST_MEDIA = 10


def create(state: State, exchange: Exchange) -> Answer:
    """POST /messages: 200 and queued. Events follow."""
    body = exchange.payload
    if not isinstance(body, dict):
        return declined("10023", 400, "The request body should be valid JSON.", "/")
    refused = _addressed(state, body) or _filled(body)
    if refused is not None:
        return refused
    text, recipient = str(body.get("text") or ""), str(body["to"])
    counted = segments(text)
    if counted.parts > _MOST_PARTS:
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
    )
    state.sms.put(exchange.number, sms)
    state.spawn(_carried(state, exchange, sms))
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
    ended = replace(
        sent, status=plan.final_status, code=plan.final_code, completed_at=datetime.now(UTC)
    )
    state.sms.put(exchange.number, ended)
    if plan.posting is Posting.LOST:
        return
    events = [event_of("message.sent", sent), event_of("message.finalized", ended)]
    if _is_reversed(state, plan):
        events.reverse()
    copies = max(2, state.config.webhook_copies) if plan.posting is Posting.TWICE else None
    for event in events:
        for _ in range(copies or state.config.webhook_copies):
            await state.webhooks.deliver(
                event,
                (sms.webhook_url, sms.webhook_failover_url),
                state.config,
                signing="forged" if plan.posting is Posting.FORGED else "good",
            )


def _is_reversed(state: State, plan: Plan) -> bool:
    return plan.posting is Posting.REVERSED or state.config.status_order == "reversed"


def _addressed(state: State, body: Json) -> Answer | None:
    """Return the refusal of the two numbers; None if both are right."""
    recipient, sender = body.get("to"), body.get("from")
    if recipient is None:
        return declined("10004", 422, "The 'to' parameter is required.", "/to")
    if not (isinstance(recipient, str) and _NUMBER.fullmatch(recipient)):
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
    if not isinstance(text, str | None):
        return declined("10015", 422, "The 'text' should be a string.", "/text")
    if not isinstance(media, list) or len(media) > _MOST_MEDIA:
        return declined("40317", 422, "The 'media_urls' should be at most ten.", "/media_urls")
    if not text and not media:
        return declined("40316", 422, "The message has no content.", "/text")
    if body.get("send_at") is not None:
        return declined("10015", 422, "The simulator schedules nothing.", "/send_at")
    return None
