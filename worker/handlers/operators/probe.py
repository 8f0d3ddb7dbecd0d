"""Probes Telnyx's dialect: plays turns on a conversation of its own and judges its log.

    create ▸ find ▸ update ▸ a turn ▸ the same again ▸ an image ▸ a stream ▸ a tool round ▸ delete

It ends soon after `deadline_s`, always tries to delete the conversation, and raises no error of
Telnyx or the network.
"""

import base64
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from worker.domain.errors import WorkerError
from worker.domain.messages import user_item
from worker.domain.reports import dialect
from worker.domain.reports.dialect import users_of
from worker.domain.reports.finding import Finding, fault, ok, unchecked, warning
from worker.domain.tools import ToolSpec
from worker.handlers.operators.probe_conversation import (
    SOURCE,
    Log,
    NotAnsweredError,
    ProbeConversation,
)
from worker.telnyx.client import TelnyxClient

INSTRUCTIONS: Final = "An installation is being checked. Answer in one short sentence."
TEXT: Final = "Is this  read?\n  ½ naïve Ünïcode ✓ 🙂 "
"""All that a store might normalise: runs of space, space at the ends, a line, letter forms."""
TOOL_TEXT: Final = 'Call this function now, say what it gave.\ntool:worker_doctor_probe {"n": 7}'
TOOL_OUTPUT: Final = '{"worker_doctor": "seven"}'
STREAM_TEXT: Final = "Please count from one to five."
IMAGE_TEXT: Final = "Which colour has this picture?"
TOOL: Final = ToolSpec(
    name="worker_doctor_probe",
    description="Gives a word for a number.",
    parameters={
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
    },
)

_Findings: TypeAlias = dict[str, Finding]


def play(
    client: TelnyxClient,
    model: str,
    *,
    sees_images: bool = False,
    patience_s: float = 15.0,
    call_timeout_s: float = 30.0,
    deadline_s: float = 120.0,
) -> dict[str, Finding]:
    """Play all points and return their findings by name. `sees_images`: whether the model does.

    `patience_s`: the longest wait for each change that should become visible.
    """
    probes = _Probes(
        client=client,
        model=model,
        patience_s=patience_s,
        call_timeout_s=call_timeout_s,
        ends_at=time.monotonic() + deadline_s,
        sees_images=sees_images,
    )
    return dialect.report(probes.play())


@dataclass(kw_only=True)
class _Probes(ProbeConversation):
    """The points, in order, on this conversation."""

    sees_images: bool

    def play(self) -> _Findings:
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
        return found

    def _create(self) -> _Findings:
        self.create()
        return {}

    def _find(self) -> _Findings:
        def is_found() -> bool:
            return any(one.id == self.id for one in self.client.conversations.find(self.tag))

        delay_s = self.delay_until(is_found)
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

        def is_whole(log: Log) -> bool:
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
            "image_url": f"data:image/png;base64,{_red_square()}",
        }
        before, log = self._after(user_item(IMAGE_TEXT, (part,)))
        texts = [one.text for one in users_of(log)[before:]]
        return {"image": dialect.judge_text(texts, IMAGE_TEXT)}

    def _stream(self) -> _Findings:
        pieces: list[str] = []
        answer = self.ask(user_item(STREAM_TEXT, ()), on_text=pieces.append)
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

    def _after(self, item: dict[str, object]) -> tuple[int, Log]:
        """Send one item; return the number of user messages before it, and the log after it."""
        before = len(users_of(self.log()))
        self.ask(item)
        log, _ = self.log_when(lambda log: len(users_of(log)) > before)
        return before, log

    def _clean_up(self) -> _Findings:
        try:
            self.delete()
        except WorkerError as error:
            meaning = "delete it yourself: its metadata has source = worker-doctor"
            return {"conversation": warning(f"not deleted: {error}", meaning)}
        return {"conversation": ok("created and deleted")}


def _guarded(name: str, part: Callable[[], _Findings]) -> _Findings:
    try:
        return part()
    except NotAnsweredError as error:
        return {name: fault(str(error), "messages like this one are not answered")}
    except WorkerError as error:
        return {name: fault(str(error), "this call does not work as documented")}


def _is_round_over(log: Log) -> bool:
    """Whether the log holds tool calls, and an end after them."""
    called = any(one.tool_calls for one in log)
    return called and log[-1].role == "assistant" and not log[-1].tool_calls


def _red_square(side: int = 64) -> str:
    """Return a PNG in base64; some models refuse pictures of a few pixels."""
    rows = (b"\0" + b"\xff\0\0" * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    png = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + png).decode()
