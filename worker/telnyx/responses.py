"""The Responses endpoint: one POST, one outcome, no retry (it knows no idempotency key)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from worker.domain.calls import CallOutcome, NotSent, Unknown
from worker.domain.ids import TelnyxConversationId
from worker.telnyx.classify import classify
from worker.telnyx.request import encode
from worker.telnyx.transport import LineError
from worker.telnyx.window import CallWindow
from worker.telnyx.wire import Wire

PATH = "/ai/openai/responses"
_NAMED = frozenset({"model", "input", "conversation", "instructions", "tools", "stream"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRequest:
    """What one call sends: only the new turn's items, never the history."""

    model: str
    input: tuple[Mapping[str, object], ...]
    conversation: TelnyxConversationId | None = None
    """None: stateless, Telnyx stores nothing."""
    instructions: str | None = None
    tools: tuple[Mapping[str, object], ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)
    """Sent as it is: reasoning, service_tier, max_output_tokens, temperature, region, mode."""

    def __post_init__(self) -> None:
        if taken := _NAMED & self.extra.keys():
            raise ValueError(f"extra may not hold {sorted(taken)}")

    def body(self) -> bytes:
        """Return the JSON. Raises TypeError and ValueError for a value that JSON does not know."""
        document: dict[str, object] = {"model": self.model}
        if self.conversation is not None:
            document["conversation"] = str(self.conversation)
        if self.instructions is not None:
            document["instructions"] = self.instructions
        document["input"] = self.input
        if self.tools:
            document["tools"] = self.tools
        return encode(document | dict(self.extra))


class Responses:
    """`TelnyxClient.responses`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def create(self, request: ResponseRequest, window: CallWindow) -> CallOutcome:
        """POST once. Raises for nothing that network or Telnyx do, only for what is no JSON."""
        body = request.body()
        try:
            answer = self._wire.post_once(PATH, body, window)
        except LineError as error:
            return Unknown(reason=str(error)) if window.wrote else NotSent(reason=str(error))
        return classify(answer.status, answer.headers, answer.body, now=datetime.now(UTC))
