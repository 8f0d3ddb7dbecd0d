"""A text message from a phone: it opts in or out, and becomes a `message.received` event."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from worker.domain.sms.segments import segments
from worker.sandbox.simulator.record.sms import Signing, Sms, event_of
from worker.sandbox.simulator.record.values import Json
from worker.sandbox.simulator.state.state import State

_WORDS: dict[str, Literal["STOP", "START", "HELP"]] = {
    **dict.fromkeys(("STOP", "STOPALL", "STOP ALL", "UNSUBSCRIBE"), "STOP"),
    **dict.fromkeys(("CANCEL", "END", "QUIT"), "STOP"),
    **dict.fromkeys(("START", "UNSTOP"), "START"),
    "HELP": "HELP",
}
"""Telnyx's page on opting in and out: these are reserved and cannot be reassigned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundSms:
    """What somebody's phone sends. The two numbers are taken as they are."""

    sender: str
    recipient: str
    text: str = ""
    media: tuple[str, ...] = ()
    """URLs; with any it is an MMS."""
    copies: int | None = None
    """How often the event is delivered; None = as the settings want it."""
    signing: Signing = "good"
    whatsapp: bool = False
    cc: tuple[str, ...] = ()
    """The others of a group."""


def receive(state: State, inbound: InboundSms) -> Json:
    """Take it in and let its event go out; return `event_id` and `message_id`."""
    config = state.config
    word = keyword(inbound.text, config.keyword_match)
    counted = segments(inbound.text)
    sms = Sms(
        id=str(uuid4()),
        direction="inbound",
        sender=inbound.sender,
        recipient=inbound.recipient,
        text=inbound.text,
        media=inbound.media,
        encoding=counted.encoding,
        parts=counted.parts,
        status="webhook_delivered",
        received_at=datetime.now(UTC),
        webhook_url=config.webhook_url,
        webhook_failover_url=config.webhook_failover_url,
        autoresponse_type=word,
        whatsapp=inbound.whatsapp,
        cc=inbound.cc,
    )
    state.sms.put(None, sms)
    if word in {"STOP", "START"}:
        state.sms.set_opted_out(
            inbound.sender,
            opted_out=word == "STOP",
            ours=inbound.recipient,
            keyword=inbound.text.strip().upper(),
        )
    event = event_of("message.received", sms)
    copies = config.webhook_copies if inbound.copies is None else inbound.copies
    state.spawn(_posted(state, event, copies, inbound.signing))
    return {"event_id": event["id"], "message_id": sms.id}


async def _posted(state: State, event: Json, copies: int, signing: Signing) -> None:
    config = state.config
    urls = (config.webhook_url, config.webhook_failover_url)
    for _ in range(copies):
        await state.webhooks.deliver(event, urls, config, signing=signing)


def keyword(text: str, how: Literal["first_word", "whole", "exact"]) -> str | None:
    """Return Telnyx's own answer to STOP, START or HELP; None for any other text."""
    if how == "exact":
        return _WORDS.get(text)
    whole = " ".join(text.upper().split())
    if how == "first_word" and whole not in _WORDS:
        found = re.match(r"\W*(\w+)", whole)
        return _WORDS.get(found[1]) if found else None
    return _WORDS.get(whole)
