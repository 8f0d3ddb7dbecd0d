"""Finds the message that a person on call asks for, or the place where it was left."""

import unicodedata
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from worker.queue.unwrap import envelope_in, uuid_of
from worker.store.reports.message_history import Found, InInbox, MessageReports, RefusedEnvelope

_MAX_ROW_ID: Final = 2**63 - 1


def find(messages: MessageReports, asked: str) -> tuple[Found, ...]:
    """Find messages by our number, CHANNEL:USER:MESSAGE-ID, the channel's own id, or a task's.

    The first form that matches anything wins, in this order.
    """
    if asked.isascii() and asked.isdecimal() and int(asked) <= _MAX_ROW_ID:
        found = messages.by_row(int(asked))
        if found:
            return found
    asked = unicodedata.normalize("NFC", asked)
    channel, colon, rest = asked.partition(":")
    # Addresses and message ids may both contain colons, so every split is tried.
    places = [place for place, char in enumerate(rest) if char == ":"]
    if colon and places:
        pairs = [(rest[:place], rest[place + 1 :]) for place in places]
        found = messages.by_address(channel, pairs)
        if found:
            return found
    return messages.by_message_id(asked) or messages.by_task(_task(asked))


def not_accepted(
    messages: MessageReports, asked: str
) -> tuple[list[InInbox], list[RefusedEnvelope]]:
    """Look for a message in the inbox and among dead letters, the newest first."""
    names = {asked, unicodedata.normalize("NFC", asked)}
    parts = asked.split(":")
    names |= {":".join(parts[place:]) for place in range(2, len(parts))}
    inbox = list(messages.in_inbox(names, _task(asked)))
    found = {one.id: one for one in messages.refused_task(_task(asked))}
    found |= {one.id: one for one in messages.refused() if _message_id(one.raw) in names}
    return inbox, list(found.values())


def _task(asked: str) -> UUID:
    """Return the id under which rows have a task, whose own need not be a UUID."""
    return UUID(uuid_of(asked))


def _message_id(raw: bytes) -> str | None:
    try:
        envelope = envelope_in(raw)
    except LookupError:
        return None
    found = envelope.get("message_id") if isinstance(envelope, Mapping) else None
    return found if isinstance(found, str) else None
