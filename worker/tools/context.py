"""For authors of tool functions: the context of a call, and the error that refuses it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """Passed to every parameter with this annotation; the model neither sees nor chooses it."""

    idempotency_key: str
    """The same for every run of the same call of the model."""
    channel: str
    recipient: str
    """Our own address."""
    user: str
    """The channel user's address."""
    thread: str
    metadata: Mapping[str, str]
    """Metadata of the turn's newest message, as its producer sent it."""


class ToolError(Exception):
    """Raised by a tool function: it did nothing. Its text is for the model, which may repeat it."""
