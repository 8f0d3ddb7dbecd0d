"""Explains one message to a person on call: finds it, reads its history, explains its state."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from worker.domain.ids import MessageRowId
from worker.domain.reports.explain_ended import Explanation
from worker.domain.reports.explain_waiting import explain
from worker.domain.reports.message_history import MessageHistory
from worker.domain.routing import Routing
from worker.domain.timing import Timing
from worker.handlers.intake.accept import unknown_fields
from worker.handlers.operators.replay import NotReplayableError, envelope_in
from worker.store.reports.message_history import Found, InInbox, MessageReports, RefusedEnvelope

_MAX_ROW_ID: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """An accepted message with its history and state."""

    history: MessageHistory
    explanation: Explanation
    unknown: list[dict[str, str | None]]
    """Fields of its envelope that the service does not know."""


@dataclass(frozen=True, kw_only=True)
class ExplainMessage:
    """The use case behind `worker why`; it changes nothing."""

    messages: MessageReports
    routing: Routing
    timing: Timing

    def find(self, asked: str) -> tuple[Found, ...]:
        """Find messages by our number, CHANNEL:USER:MESSAGE-ID, or the channel's own id.

        The first form that matches anything wins, in this order.
        """
        if asked.isascii() and asked.isdecimal() and int(asked) <= _MAX_ROW_ID:
            found = self.messages.by_row(int(asked))
            if found:
                return found
        asked = unicodedata.normalize("NFC", asked)
        channel, colon, rest = asked.partition(":")
        # Addresses and message ids may both contain colons, so every split is tried.
        places = [place for place, char in enumerate(rest) if char == ":"]
        if colon and places:
            pairs = [(rest[:place], rest[place + 1 :]) for place in places]
            found = self.messages.by_address(channel, pairs)
            if found:
                return found
        return self.messages.by_message_id(asked)

    def __call__(self, message: MessageRowId) -> Explained | None:
        """Explain an accepted message; None if it does not exist."""
        history = self.messages.read(message)
        if history is None:
            return None
        return Explained(
            history=history,
            explanation=explain(history, self.routing, self.timing),
            unknown=unknown_fields(history.message.envelope),
        )

    def not_accepted(self, asked: str) -> tuple[list[InInbox], list[RefusedEnvelope]]:
        """Look for a message in the inbox and among dead letters, the newest first."""
        names = {asked, unicodedata.normalize("NFC", asked)}
        parts = asked.split(":")
        names |= {":".join(parts[place:]) for place in range(2, len(parts))}
        inbox = [one for name in sorted(names) for one in self.messages.in_inbox(name)]
        return inbox, [one for one in self.messages.refused() if _message_id(one.raw) in names]


def _message_id(raw: bytes) -> str | None:
    try:
        envelope = envelope_in(raw)
    except NotReplayableError:
        return None
    found = envelope.get("message_id") if isinstance(envelope, Mapping) else None
    return found if isinstance(found, str) else None
