"""What the author of a tool function imports: whom it runs for, and how it says no."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from worker.domain.tools import ToolRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """Given to every parameter with this annotation; the model neither sees nor chooses it."""

    idempotency_key: str
    """The same for every run of the same call of the model."""
    channel: str
    recipient: str
    """Our own address."""
    user: str
    """The person's address."""
    thread: str
    metadata: Mapping[str, str]
    """Of the newest message of the turn, as its producer sent it."""

    @classmethod
    def of(cls, request: ToolRequest) -> Self:
        """Take from a request what a tool may know."""
        who = request.who
        return cls(
            idempotency_key=str(request.key),
            channel=who.channel,
            recipient=who.recipient,
            user=who.address,
            thread=who.thread,
            metadata=dict(request.metadata),
        )


class ToolError(Exception):
    """Raised by a tool function: it did nothing. Its text is for the model, which may repeat it."""
