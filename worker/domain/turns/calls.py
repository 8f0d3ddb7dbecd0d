"""The outcome of one POST to the Responses endpoint.

Four outcomes:
    NotSent   no byte was written                         -> may be sent again
    Refused   a complete answer says no                   -> read back, then perhaps again
    Done      a complete 2xx                              -> the turn landed
    Unknown   anything else: the call may have happened   -> read back, never again blindly
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Fault(StrEnum):
    """Who can resolve a refusal."""

    ACCOUNT = "account"
    """401, 402, 403 in Telnyx's own JSON, 3xx, its codes of key and account: an operator."""
    RATE = "rate"
    """429: time."""
    REQUEST = "request"
    """Any other 4xx: this request, as it stands, on this conversation."""
    SERVER = "server"
    """A 5xx with Telnyx's own JSON error: Telnyx."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A function that the model wants called.

    `arguments` is JSON text as the model wrote it, perhaps not even valid.
    """

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """No byte of the request left (DNS, connect, TLS, or the send deadline had passed)."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A complete answer that refuses; it does not prove that nothing was stored."""

    status: int
    fault: Fault
    code: str | None = None
    """Telnyx's error code, a string of digits; None when the body had none."""
    retry_after_s: float | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A complete 2xx answer. `status` is the body's own: completed, incomplete, failed, ..."""

    status: str
    text: str
    """All output_text parts of all message items, joined; empty when there was no message item."""
    tool_calls: tuple[ToolCall, ...] = ()
    response_id: str | None = None
    request_id: str | None = None
    incomplete_reason: str | None = None
    output: tuple[dict[str, object], ...] = ()
    """The output items as they came, for the record."""
    input_tokens: int = 0
    """Tokens as Telnyx counted them, as are `output_tokens`; zero if it named none."""
    output_tokens: int = 0

    @property
    def is_plain_text(self) -> bool:
        """Whether it consists of one text and nothing else that anybody could read."""
        match self.output:
            case ({"type": "message", "content": [{"type": "output_text", **more}]},):
                # Annotations and the like are empty, if there are none.
                return not any(value for key, value in more.items() if key != "text")
            case _:
                return False

    @property
    def refused(self) -> bool:
        """Whether a content filter, or the model itself, refuses to answer."""
        return self.incomplete_reason == "content_filter" or any(
            isinstance(part, Mapping) and part.get("type") == "refusal"
            for item in self.output
            if isinstance(parts := item.get("content"), Sequence)
            for part in parts
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A byte was written and no complete, readable verdict came back.

    Also 408, 409, and a 5xx without Telnyx's own JSON.
    """

    reason: str
    status: int | None = None
    request_id: str | None = None


CallOutcome: TypeAlias = NotSent | Refused | Done | Unknown
