"""Telnyx's dialect: the undocumented points that the service relies on, and findings on them.

    ok        as the service assumes, or a point where it is ready for either
    warning   different, and the service copes: `fix` says how
    fault     different, and something does not work: `fix` says what

Each finding compares the log of a conversation made for the check with the assumption. Pure.
"""

from collections.abc import Mapping, Sequence

from worker.domain.reports.finding import Finding, fault, ok, unchecked, warning
from worker.domain.text.normal_forms import same_text
from worker.domain.turns.calls import Done, ToolCall
from worker.domain.turns.records import ThreadMessage

NEVER_AGAIN = "a turn whose outcome is unknown is never sent again: it ends with the fallback"
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
"""Name of a point -> the assumption of the service."""


def report(found: Mapping[str, Finding]) -> dict[str, Finding]:
    """Return the findings of all points in order; a point without one was not reached."""
    return {name: found.get(name, unchecked("an earlier point failed")) for name in EXPECTED}


def judge_delay(delay_s: float | None, patience_s: float) -> Finding:
    """Judge the delay of a turn in the log; None = it was not there within `patience_s`."""
    if delay_s is None:
        return fault(
            f"not there after {patience_s:g} s",
            f"{NEVER_AGAIN}; if the log only lags, raise quiet_margin_s in [timing] above it",
        )
    if delay_s == 0:
        return ok("there at once")
    return warning(f"there after {delay_s:.1f} s", "unclear calls are looked at until T_QUIET")


def judge_search(delay_s: float | None, patience_s: float) -> Finding:
    """Judge the delay of a search by metadata; None = it did not find the conversation."""
    if delay_s is None:
        return fault(
            f"not found within {patience_s:g} s",
            "a conversation is lost if the answer to its creation is: another is opened",
        )
    return ok("found at once" if delay_s == 0 else f"found after {delay_s:.1f} s")


def judge_first_turn(
    log: Sequence[ThreadMessage], said: str, instructions: str, answer: Done
) -> dict[str, Finding]:
    """Judge a log that should hold one turn: the text `said`, and its answer."""
    told = [one for one in log if same_text(one.text, instructions)]
    users = [one for one in users_of(log) if one not in told]
    return {
        "user items": ok("one")
        if len(users) == 1
        else fault(
            f"{len(users)} for one turn", f"turns cannot be counted in the log: {NEVER_AGAIN}"
        ),
        "text": judge_text([one.text for one in users], said),
        "instructions": _judge_instructions({one.role for one in told}),
        "reply": _judge_reply(log, answer),
    }


def users_of(log: Sequence[ThreadMessage]) -> list[ThreadMessage]:
    """Return the messages that count as the channel user's."""
    return [one for one in log if one.role == "user"]


def judge_text(texts: Sequence[str], said: str) -> Finding:
    """Judge the stored text of a turn."""
    if len(texts) != 1:
        return unchecked(f"{len(texts)} user messages, none to compare with")
    if texts[0] == said:
        return ok("kept exactly")
    if same_text(texts[0], said):
        return warning("white space or letter forms changed", "texts are compared without them")
    return fault("another text", f"turns are not recognised in the log: {NEVER_AGAIN}")


def _judge_instructions(roles: set[str]) -> Finding:
    if "user" in roles:
        return fault(
            "listed as a user message",
            f"they count as the person's words: {NEVER_AGAIN}; use agents without instructions",
        )
    return ok(f"listed as {', '.join(sorted(roles))}" if roles else "not listed")


def _judge_reply(log: Sequence[ThreadMessage], answer: Done) -> Finding:
    if not answer.text.strip():
        return unchecked("the model said nothing")
    texts = [one.text for one in log if one.role == "assistant" and one.text.strip()]
    if same_text("".join(texts), answer.text):
        return ok("the same text")
    if any(same_text(text, answer.text) for text in texts):
        return fault(
            "more assistant texts than the reply, such as reasoning",
            'a reply adopted from the log would carry them: set reasoning_effort = "none"',
        )
    return fault(
        "another text, or none", "a reply that was lost on the way cannot be taken from the log"
    )


def judge_again(before: int, after: int) -> Finding:
    """Judge whether a repeated text became one more user message."""
    if after == before + 1:
        return ok("a second one")
    return fault(
        f"{after - before} more user messages", f"equal messages cannot be told: {NEVER_AGAIN}"
    )


def judge_stream(pieces: Sequence[str], answer: Done) -> Finding:
    """Judge a streamed answer by its pieces."""
    if not answer.text.strip():
        return unchecked("the model said nothing")
    if "".join(pieces) == answer.text:
        return ok("pieces, and the whole at the end")
    if not pieces:
        return warning("the whole at the end, no pieces", "viewers see a reply when it is whole")
    return fault("pieces that are not the whole", "viewers see another text: set stream = false")


def judge_tools(
    log: Sequence[ThreadMessage], calls: Sequence[ToolCall], output: str
) -> dict[str, Finding]:
    """Judge the log of a round of tools; `output` is the output that each call was sent."""
    listed = {call.call_id for one in log for call in one.tool_calls}
    roles = {one.role for one in log if same_text(one.text, output)}
    return {
        "tool calls": ok("listed with their call ids")
        if {call.call_id for call in calls} <= listed
        else fault("not listed, or with other ids", f"rounds are not recognised: {NEVER_AGAIN}"),
        "tool outputs": _judge_outputs(roles),
    }


def _judge_outputs(roles: set[str]) -> Finding:
    if roles == {"tool"}:
        return ok("listed with the role tool")
    if "user" in roles:
        return fault("listed as user messages", f"they count as the person's words: {NEVER_AGAIN}")
    seen = f"listed as {', '.join(sorted(roles))}" if roles else "not listed"
    return fault(seen, f"whether outputs arrived cannot be seen: {NEVER_AGAIN}")
