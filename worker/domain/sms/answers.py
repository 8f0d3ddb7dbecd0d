"""Telnyx's answer to a request to send, as far as it was read."""

from dataclasses import dataclass

from worker.domain.turns.calls import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class SendAnswer:
    """One complete answer."""

    status: int
    fault: Fault | None = None
    """Who can resolve a refusal, by the status; None = it is none, or no verdict."""
    code: str | None = None
    """Telnyx's code of the refusal."""
    pause_s: float | None = None
    """How long it asks to wait."""
    message_id: str | None = None
    """Telnyx's id of the message; None = it did not take it."""
    parts: int | None = None
    suppressed: bool = False
    """It was taken and goes nowhere: mails to this address came back, or were unwanted."""
