"""Probes Telnyx's dialect: plays turns on a conversation of its own and judges its log.

    create ▸ find ▸ update ▸ a turn ▸ the same again ▸ an image ▸ a stream ▸ a tool round ▸ delete

It ends soon after `DEADLINE_S`, always tries to delete the conversation, and raises no error of
Telnyx or the network.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID, uuid4

from worker.domain.errors import WorkerError
from worker.domain.ids import TelnyxConversationId
from worker.domain.messages import user_item
from worker.domain.reports import dialect
from worker.domain.reports.dialect import users_of
from worker.domain.reports.finding import Finding, fault, ok, unchecked, warning
from worker.domain.tools import tool_item
from worker.domain.turns.calls import CallOutcome, Done, NotSent, Refused, Unknown
from worker.domain.turns.records import ThreadMessage
from worker.net.window import CallWindow
from worker.telnyx.client import TelnyxClient
from worker.telnyx.responses import ResponseRequest

INSTRUCTIONS: Final = "An installation is being checked. Answer in one short sentence."
TEXT: Final = "Is this  read?\n  ½ naïve Ünïcode ✓ 🙂 "
"""All that a store might normalise: runs of space, space at the ends, a line, letter forms."""
TOOL_TEXT: Final = 'Call this function now, say what it gave.\ntool:worker_doctor_probe {"n": 7}'
TOOL_OUTPUT: Final = '{"worker_doctor": "seven"}'
STREAM_TEXT: Final = "Please count from one to five."
IMAGE_TEXT: Final = "Which colour has this picture?"
TOOL: Final = tool_item(
    "worker_doctor_probe",
    "Gives a word for a number.",
    {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
)
# A PNG of 64 pixels a side: some models refuse pictures of a few pixels.
_RED_SQUARE: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAAb0lEQVR4nO3PAQkAAAyEwO9feoshgnABdLep8QUN"
    "yPEFDcjxBQ3I8QUNyPEFDcjxBQ3I8QUNyPEFDcjxBQ3I8QUNyPEFDcjxBQ3I8QUNyPEFDcjxBQ3I8QUNyPEFDcjx"
    "BQ3I8QUNyPEFDcjxBQ3IPanc8OLDQitxAAAAAElFTkSuQmCC"
)

SOURCE: Final = {"source": "worker-doctor"}
"""Metadata of every conversation made here."""
DEADLINE_S: Final = 120.0
"""For all points together."""
_CALL_TIMEOUT_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.3

_Log: TypeAlias = tuple[ThreadMessage, ...]
_Findings: TypeAlias = dict[str, Finding]


class NotAnsweredError(WorkerError):
    """A turn was not answered, or the time for all of them is over."""


@dataclass(kw_only=True)
class Probes:
    """The points, in order, on one conversation."""

    client: TelnyxClient
    model: str
    sees_images: bool = False
    """Whether the model does."""
    patience_s: float = 15.0
    """The longest wait for each change that should become visible."""
    tag: Mapping[str, str] = field(default_factory=lambda: {"worker_doctor": str(uuid4())})
    """Metadata of this one alone."""
    key: UUID = field(default_factory=uuid4)
    _id: TelnyxConversationId | None = None
    _ends_at: float = 0.0

    def play(self) -> _Findings:
        """Play all points and return their findings by name."""
        self._ends_at = time.monotonic() + DEADLINE_S
        found: _Findings = {}
        try:
            found |= _guarded("conversation", self._create)
            if not found:
                found |= _guarded("metadata filter", self._find)
                found |= _guarded("metadata update", self._update)
                found |= _guarded("turn", self._first_turn)
            if "reply" in found:  # turns are answered and logged, else the rest is pointless
                found |= _guarded("same text again", self._same_again)
                found |= _guarded("image", self._image)
                found |= _guarded("streaming", self._stream)
                found |= _guarded("tool round", self._tool_round)
        finally:
            found = self._clean_up() | found
        return dialect.report(found)

    def _create(self) -> _Findings:
        self._id = self.client.conversations.create(self.key, "worker doctor", self.metadata).id
        return {}

    def _find(self) -> _Findings:
        find = self.client.conversations.find
        delay_s = self.delay_until(lambda: self.id in {one.id for one in find(self.tag)})
        return {"metadata filter": dialect.judge_search(delay_s, self.patience_s)}

    def _update(self) -> _Findings:
        conversations = self.client.conversations
        try:
            conversations.update_metadata(self.id, self.tag)
            kept = conversations.get(self.id).metadata
        finally:
            # By this key a stray conversation is found; an update with our tag may have dropped it.
            conversations.update_metadata(self.id, self.metadata)
        merges = SOURCE.items() <= kept.items()
        return {"metadata update": ok("merges" if merges else "replaces")}

    def _first_turn(self) -> _Findings:
        answer = self.ask(user_item(TEXT, ()), instructions=INSTRUCTIONS)
        findings = {"turn": ok("answered")}

        def is_whole(log: _Log) -> bool:
            return bool(users_of(log)) and any(one.role == "assistant" for one in log)

        log, delay_s = self.log_when(is_whole)
        findings["read after write"] = dialect.judge_delay(delay_s, self.patience_s)
        if delay_s is not None:
            findings |= dialect.judge_first_turn(log, TEXT, INSTRUCTIONS, answer)
        return findings

    def _same_again(self) -> _Findings:
        before, log = self._after(user_item(TEXT, ()))
        return {"same text again": dialect.judge_again(before, len(users_of(log)))}

    def _image(self) -> _Findings:
        if not self.sees_images:
            return {"image": unchecked("the list of models says it takes no images")}
        part: dict[str, object] = {
            "type": "input_image",
            "image_url": f"data:image/png;base64,{_RED_SQUARE}",
        }
        before, log = self._after(user_item(IMAGE_TEXT, (part,)))
        texts = [one.text for one in users_of(log)[before:]]
        return {"image": dialect.judge_text(texts, IMAGE_TEXT)}

    def _stream(self) -> _Findings:
        pieces: list[str] = []
        answer = self.ask(user_item(STREAM_TEXT, ()), on_text=lambda one: pieces.append(one or ""))
        return {"streaming": dialect.judge_stream(pieces, answer)}

    def _tool_round(self) -> _Findings:
        asked = self.ask(user_item(TOOL_TEXT, ()), tools=(TOOL,))
        if not asked.tool_calls:
            why = unchecked("the model did not call")
            return dict.fromkeys(("tool round", "tool calls", "tool outputs"), why)
        kind = {"type": "function_call_output", "output": TOOL_OUTPUT}
        outputs = [{**kind, "call_id": call.call_id} for call in asked.tool_calls]
        self.ask(*outputs, tools=(TOOL,))
        log, _ = self.log_when(_is_round_over)
        findings = dialect.judge_tools(log, asked.tool_calls, TOOL_OUTPUT)
        return {"tool round": ok("answered"), **findings}

    def _after(self, item: dict[str, object]) -> tuple[int, _Log]:
        """Send one item; return the number of user messages before it, and the log after it."""
        before = len(users_of(self.log()))
        self.ask(item)
        log, _ = self.log_when(lambda log: len(users_of(log)) > before)
        return before, log

    def _clean_up(self) -> _Findings:
        conversations = self.client.conversations
        try:
            # By its tag if the answer to its creation was lost.
            made = [self._id] if self._id else [one.id for one in conversations.find(self.tag)]
            for each in made:
                conversations.delete(each)
        except WorkerError as error:
            meaning = "delete it yourself: its metadata has source = worker-doctor"
            return {"conversation": warning(f"not deleted: {error}", meaning)}
        return {"conversation": ok("created and deleted")}

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

    def ask(
        self,
        *items: Mapping[str, object],
        instructions: str | None = None,
        tools: tuple[Mapping[str, object], ...] = (),
        on_text: Callable[[str | None], None] | None = None,
    ) -> Done:
        """Send these items; `on_text` asks for a stream. Raises `NotAnsweredError`."""
        request = ResponseRequest(
            model=self.model,
            input=items,
            conversation=self.id,
            instructions=instructions,
            tools=tools,
            stream=on_text is not None,
        )
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            raise NotAnsweredError("no time was left")
        window = CallWindow.starting_now(min(_CALL_TIMEOUT_S, left_s))
        outcome = self.client.responses.create(request, window, on_text)
        if not isinstance(outcome, Done):
            raise NotAnsweredError(_described(outcome))
        return outcome

    def log(self) -> _Log:
        """Read it. Raises WorkerError."""
        return self.client.conversations.messages(self.id)

    def log_when(self, is_whole: Callable[[_Log], bool]) -> tuple[_Log, float | None]:
        """Read the log until it is whole; return it with the delay, as `delay_until` does."""
        logs: list[_Log] = []

        def look() -> bool:
            logs.append(self.log())
            return is_whole(logs[-1])

        delay_s = self.delay_until(look)
        return logs[-1], delay_s

    def delay_until(self, is_so: Callable[[], bool]) -> float | None:
        """Return the seconds until it is so: 0 = at the first look, None = not in `patience_s`."""
        began_at = time.monotonic()
        if is_so():
            return 0.0
        while time.monotonic() < min(began_at + self.patience_s, self._ends_at):
            time.sleep(_LOOK_EVERY_S)
            if is_so():
                return time.monotonic() - began_at
        return None


def _guarded(name: str, part: Callable[[], _Findings]) -> _Findings:
    try:
        return part()
    except NotAnsweredError as error:
        return {name: fault(str(error), "messages like this one are not answered")}
    except WorkerError as error:
        return {name: fault(str(error), "this call does not work as documented")}


def _is_round_over(log: _Log) -> bool:
    """Whether the log holds tool calls, and an end after them."""
    called = any(one.tool_calls for one in log)
    return called and log[-1].role == "assistant" and not log[-1].tool_calls


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
