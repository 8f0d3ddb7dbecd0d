"""What Telnyx does where it documents nothing: the points we build on, and verdicts on them.

Each verdict compares what a throw-away conversation showed with what the service assumes. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from worker.domain.turns.calls import Done, ToolCall
from worker.domain.turns.reconcile import same_text
from worker.domain.turns.thread import ThreadMessage

NEVER_AGAIN = "a turn whose outcome is unknown is never sent again: it ends with the fallback"


class Standing(StrEnum):
    """How what was seen fits the service."""

    EXPECTED = "expected"
    """As the service assumes it, or a point where it is ready for either."""
    TOLERATED = "tolerated"
    """Otherwise, and the service copes: `meaning` says how."""
    UNSAFE = "unsafe"
    """Otherwise, and something does not work: `meaning` says what."""
    UNCHECKED = "not checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectFinding:
    """One point. The texts hold nothing that anybody wrote, nor ids."""

    name: str
    standing: Standing
    expected: str
    seen: str
    meaning: str = ""
    """For the service, and what to set; empty where all is as expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DialectReport:
    """All points, always in the same order."""

    findings: tuple[DialectFinding, ...]

    def __getitem__(self, name: str) -> DialectFinding:
        """Give the finding of one point."""
        return next(one for one in self.findings if one.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one point came to."""

    standing: Standing
    seen: str
    meaning: str = ""


EXPECTED: dict[str, str] = {
    "conversation": "created, and deleted at the end",
    "metadata filter": "finds the conversation by its metadata",
    "metadata update": "replaces or merges: the service always sends all keys",
    "turn": "answered",
    "read after write": "a turn is in the log when its answer is there",
    "user items": "one user message for each turn",
    "text": "kept as it was sent",
    "instructions": "not listed as a user message",
    "reply": "what the log holds is the reply",
    "same text again": "a second user message",
    "image": "the turn keeps its text",
    "streaming": "the text comes in pieces, and whole at the end",
    "tool round": "the outputs of tools are taken and answered",
    "tool calls": "listed with their call ids",
    "tool outputs": "listed with the role tool",
}
"""Name of a point -> what the service builds on."""


def report(verdicts: dict[str, Verdict]) -> DialectReport:
    """Put the verdicts in order; a point without one was not reached."""
    missing = Verdict(standing=Standing.UNCHECKED, seen="an earlier point failed")
    found = ((name, verdicts.get(name, missing)) for name in EXPECTED)
    return DialectReport(
        findings=tuple(
            DialectFinding(
                name=name,
                standing=verdict.standing,
                expected=EXPECTED[name],
                seen=verdict.seen,
                meaning=verdict.meaning,
            )
            for name, verdict in found
        )
    )


def expected(seen: str) -> Verdict:
    """Say that all is as it should be."""
    return Verdict(standing=Standing.EXPECTED, seen=seen)


def tolerated(seen: str, meaning: str) -> Verdict:
    """Say that the service copes."""
    return Verdict(standing=Standing.TOLERATED, seen=seen, meaning=meaning)


def unsafe(seen: str, meaning: str) -> Verdict:
    """Say what does not work."""
    return Verdict(standing=Standing.UNSAFE, seen=seen, meaning=meaning)


def unchecked(why: str) -> Verdict:
    """Say why it could not be seen."""
    return Verdict(standing=Standing.UNCHECKED, seen=why)


def judge_delay(delay_s: float | None, patience_s: float) -> Verdict:
    """Judge how late a turn came into the log; None = it did not within `patience_s`."""
    if delay_s is None:
        return unsafe(
            f"not there after {patience_s:g} s",
            f"{NEVER_AGAIN}; where the log only lags, raise quiet_margin_s in [timing] above it",
        )
    if delay_s == 0:
        return expected("there at once")
    return tolerated(f"there after {delay_s:.1f} s", "unclear calls are looked at until T_QUIET")


def judge_search(delay_s: float | None, patience_s: float) -> Verdict:
    """Judge how late a search by metadata found the conversation; None = not at all."""
    if delay_s is None:
        return unsafe(
            f"not found within {patience_s:g} s",
            "a conversation whose creation was not heard of is lost: another is opened",
        )
    return expected("found at once" if delay_s == 0 else f"found after {delay_s:.1f} s")


def judge_first_turn(
    log: Sequence[ThreadMessage], said: str, instructions: str, answer: Done
) -> dict[str, Verdict]:
    """Judge a log that should hold one turn: `said`, and what was answered."""
    told = [one for one in log if same_text(one.text, instructions)]
    users = [one for one in users_of(log) if one not in told]
    return {
        "user items": judge_user_items(len(users)),
        "text": judge_text([one.text for one in users], said),
        "instructions": _judge_instructions({one.role for one in told}),
        "reply": _judge_reply(log, answer),
    }


def users_of(log: Sequence[ThreadMessage]) -> list[ThreadMessage]:
    """Give the messages that count as the person's."""
    return [one for one in log if one.role == "user"]


def judge_user_items(count: int) -> Verdict:
    """Judge how many user messages one turn left."""
    if count == 1:
        return expected("one")
    return unsafe(f"{count} for one turn", f"turns cannot be counted in the log: {NEVER_AGAIN}")


def judge_text(texts: Sequence[str], said: str) -> Verdict:
    """Judge what became of a turn's text."""
    if len(texts) != 1:
        return unchecked(f"{len(texts)} user messages, none to compare with")
    if texts[0] == said:
        return expected("kept exactly")
    if same_text(texts[0], said):
        return tolerated("white space or letter forms changed", "texts are compared without them")
    return unsafe("another text", f"turns are not recognised in the log: {NEVER_AGAIN}")


def _judge_instructions(roles: set[str]) -> Verdict:
    if "user" in roles:
        return unsafe(
            "listed as a user message",
            f"they count as the person's words: {NEVER_AGAIN}; use agents without instructions",
        )
    return expected(f"listed as {', '.join(sorted(roles))}" if roles else "not listed")


def _judge_reply(log: Sequence[ThreadMessage], answer: Done) -> Verdict:
    if not answer.text.strip():
        return unchecked("the model said nothing")
    texts = [one.text for one in log if one.role == "assistant" and one.text.strip()]
    if same_text("".join(texts), answer.text):
        return expected("the same text")
    if any(same_text(text, answer.text) for text in texts):
        return unsafe(
            "more assistant texts than the reply, such as reasoning",
            'a reply adopted from the log would carry them: set reasoning_effort = "none"',
        )
    return unsafe(
        "another text, or none", "a reply that was lost on the way is not what the log gives"
    )


def judge_again(before: int, after: int) -> Verdict:
    """Judge whether a repeated text became one more user message."""
    if after == before + 1:
        return expected("a second one")
    return unsafe(
        f"{after - before} more user messages", f"equal messages cannot be told: {NEVER_AGAIN}"
    )


def judge_stream(pieces: Sequence[str], answer: Done) -> Verdict:
    """Judge an answer that was streamed, by what came of it on the way."""
    if not answer.text.strip():
        return unchecked("the model said nothing")
    if "".join(pieces) == answer.text:
        return expected("pieces, and the whole at the end")
    if not pieces:
        return tolerated("the whole at the end, no pieces", "viewers see a reply when it is whole")
    return unsafe("pieces that are not the whole", "viewers see another text: set stream = false")


def judge_tools(
    log: Sequence[ThreadMessage], calls: Sequence[ToolCall], output: str
) -> dict[str, Verdict]:
    """Judge what a log says of a round of tools; `output` is what each call was answered with."""
    listed = {call.call_id for one in log for call in one.tool_calls}
    roles = {one.role for one in log if same_text(one.text, output)}
    return {
        "tool calls": expected("listed with their call ids")
        if {call.call_id for call in calls} <= listed
        else unsafe("not listed, or with other ids", f"rounds are not recognised: {NEVER_AGAIN}"),
        "tool outputs": _judge_outputs(roles),
    }


def _judge_outputs(roles: set[str]) -> Verdict:
    if roles == {"tool"}:
        return expected("listed with the role tool")
    if "user" in roles:
        return unsafe("listed as user messages", f"they count as the person's words: {NEVER_AGAIN}")
    seen = f"listed as {', '.join(sorted(roles))}" if roles else "not listed"
    return unsafe(seen, f"whether outputs arrived cannot be seen: {NEVER_AGAIN}")
