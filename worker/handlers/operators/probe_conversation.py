"""A conversation at Telnyx that exists only for `worker doctor`: turns, its log, its deletion."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID, uuid4

from worker.domain.errors import WorkerError
from worker.domain.ids import TelnyxConversationId
from worker.domain.tools import ToolSpec
from worker.domain.turns.calls import CallOutcome, Done, NotSent, Refused, Unknown
from worker.domain.turns.records import ThreadMessage
from worker.net.window import CallWindow
from worker.telnyx.client import TelnyxClient
from worker.telnyx.responses import ResponseRequest

SOURCE: Final = {"source": "worker-doctor"}
"""Metadata of every conversation made here."""
_LOOK_EVERY_S: Final = 0.3

Log: TypeAlias = tuple[ThreadMessage, ...]


class NotAnsweredError(WorkerError):
    """A turn was not answered, or the time for all of them is over."""


@dataclass(kw_only=True)
class ProbeConversation:
    """One conversation; every wait is bounded by `ends_at` of the monotonic clock."""

    client: TelnyxClient
    model: str
    patience_s: float
    """The longest wait for each change that should become visible."""
    call_timeout_s: float
    ends_at: float
    tag: Mapping[str, str] = field(default_factory=lambda: {"worker_doctor": str(uuid4())})
    """Metadata of this one alone."""
    key: UUID = field(default_factory=uuid4)
    _id: TelnyxConversationId | None = None

    @property
    def id(self) -> TelnyxConversationId:
        """Its id, once it was created."""
        if self._id is None:
            raise NotAnsweredError("there is no conversation")
        return self._id

    @property
    def metadata(self) -> dict[str, str]:
        """All of its metadata."""
        return {**SOURCE, **self.tag}

    def create(self) -> None:
        """Create it. Raises WorkerError."""
        self._id = self.client.conversations.create(self.key, "worker doctor", self.metadata).id

    def delete(self) -> None:
        """Delete it, even if the answer to its creation was lost. Raises WorkerError."""
        conversations = self.client.conversations
        made = [self._id] if self._id else [one.id for one in conversations.find(self.tag)]
        for each in made:
            conversations.delete(each)

    def ask(
        self,
        *items: Mapping[str, object],
        instructions: str | None = None,
        tools: tuple[ToolSpec, ...] = (),
        on_text: Callable[[str], None] | None = None,
    ) -> Done:
        """Send these items; `on_text` asks for a stream. Raises `NotAnsweredError`."""
        request = ResponseRequest(
            model=self.model,
            input=items,
            conversation=self.id,
            instructions=instructions,
            tools=tuple(tool.as_item() for tool in tools),
            stream=on_text is not None,
        )
        left_s = self.ends_at - time.monotonic()
        if left_s <= 0:
            raise NotAnsweredError("no time was left")
        window = CallWindow.starting_now(min(self.call_timeout_s, left_s))
        outcome = self.client.responses.create(request, window, on_text)
        if not isinstance(outcome, Done):
            raise NotAnsweredError(_described(outcome))
        return outcome

    def log(self) -> Log:
        """Read it. Raises WorkerError."""
        return self.client.conversations.messages(self.id)

    def log_when(self, is_whole: Callable[[Log], bool]) -> tuple[Log, float | None]:
        """Read the log until it is whole; return it with the delay, as `delay_until` does."""
        log: Log = ()

        def look() -> bool:
            nonlocal log
            log = self.log()
            return is_whole(log)

        delay_s = self.delay_until(look)
        return log, delay_s

    def delay_until(self, is_so: Callable[[], bool]) -> float | None:
        """Return the seconds until it is so: 0 = at the first look, None = not in `patience_s`."""
        began_at = time.monotonic()
        if is_so():
            return 0.0
        while time.monotonic() < min(began_at + self.patience_s, self.ends_at):
            time.sleep(_LOOK_EVERY_S)
            if is_so():
                return time.monotonic() - began_at
        return None


def _described(outcome: CallOutcome) -> str:
    match outcome:
        case Refused():
            code = f", code {outcome.code}" if outcome.code else ""
            return f"refused with status {outcome.status}{code}"
        case Unknown():
            return f"no clear answer: {outcome.reason}"
        case NotSent():
            return f"not sent: {outcome.reason}"
        case Done():
            return outcome.status
