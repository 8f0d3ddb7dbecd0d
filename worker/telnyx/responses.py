"""The Responses endpoint: one POST, one outcome, no retry (it knows no idempotency key)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from worker.domain.ids import TelnyxConversationId
from worker.domain.turns.calls import CallOutcome, NotSent, Unknown
from worker.net.answer import IncompleteAnswerError
from worker.net.connection import JSON
from worker.net.window import CallWindow
from worker.telnyx.http.connection_per_thread import EVENT_STREAM, ConnectionPerThread, encode
from worker.telnyx.streaming.stream import OnText, read_plain, read_streamed

PATH = "/ai/openai/responses"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRequest:
    """The body of one call: only the new turn's items, never the history."""

    model: str
    input: tuple[Mapping[str, object], ...]
    conversation: TelnyxConversationId | None = None
    """None: stateless, Telnyx stores nothing."""
    instructions: str | None = None
    tools: tuple[Mapping[str, object], ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)
    """Sent as it is: reasoning, service_tier, max_output_tokens, temperature, region, mode.

    The agents file may not put any of the fields above into it.
    """
    stream: bool = False
    """Whether the answer is to be streamed."""
    stream_idle_s: float | None = None
    """The longest silence within a stream, see `worker.telnyx.streaming.stream`; None = any."""

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
        if self.stream:
            document["stream"] = True
        return encode(document | dict(self.extra))


class Responses:
    """`TelnyxClient.responses`."""

    def __init__(self, http: ConnectionPerThread) -> None:
        self._http = http

    def create(
        self,
        request: ResponseRequest,
        window: CallWindow,
        on_text: OnText | None = None,
    ) -> CallOutcome:
        """POST once. Raises only for values that are no JSON, never for the network or Telnyx.

        `on_text` gets the pieces of a streamed text, in order, in this thread: those that people
        may see, or None if the pieces before were none. It must not raise (it is not called again
        then) and not take long: the deadline goes on.
        """
        body, read, accept = request.body(), read_plain, JSON
        if request.stream:
            idle_s = request.stream_idle_s
            read = partial(read_streamed, window=window, idle_s=idle_s, on_text=on_text)
            accept = EVENT_STREAM
        try:
            return self._http.post_once(PATH, body, window, read, accept=accept)
        except IncompleteAnswerError as error:
            return Unknown(reason=str(error)) if window.wrote else NotSent(reason=str(error))
