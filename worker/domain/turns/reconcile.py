"""Reconciles a turn with Telnyx's log before a second send: whether its user item landed.

Verdicts:
    Reply       it landed and was answered
    UseTools    it landed, and the model asks for tools that are not recorded yet
    Resend      it is not there, and can no longer arrive
    Later       it may still arrive, or its answer may: look again
    Unanswered  it landed, and an answer can no longer arrive
    Diverge     the log contradicts our records: a person must decide

The turn is recognised by its ordinal, never by searching for its text: people write "ok" twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from worker.domain.ids import TurnId
from worker.domain.states import ReplySource
from worker.domain.text.normal_forms import folded, same_text
from worker.domain.turns.calls import ToolCall
from worker.domain.turns.plan import Diverge, Later, Reply, UseTools
from worker.domain.turns.records import ThreadMessage
from worker.domain.turns.visible_text import visible_text
from worker.domain.turns.wanted_tools import OWN_ID

LONGEST_LOCK_S: Final = 15.0
"""A statement that waits for longer is cancelled."""
HUMAN_KEY = "worker_human"
"""Metadata key of an assistant message that our staff wrote through this service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnText:
    """The text of a turn's user item."""

    id: TurnId | None = None
    """None = the open turn, which the records do not list yet."""
    text: str
    with_images: bool = False
    """Telnyx may append words of its own to the text for them."""

    def matches(self, stored: str) -> bool:
        """Whether a message of the log may be this item."""
        if same_text(self.text, stored):
            return True
        return self.with_images and folded(stored).startswith(folded(self.text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """Our records of the thread and of the turn's calls on it."""

    user_messages: int
    """The number of user messages in the log without this turn (k)."""
    text: TurnText
    newest_call_s: float
    """Seconds since the newest intent that may have reached Telnyx."""
    newest_unknown_s: float | None
    """The same for calls with an unknown outcome; None = there are none."""
    quiet_s: float
    """The agent's T_QUIET."""
    again_s: float
    """The wait before the log is read again."""
    ended: tuple[TurnText, ...] = ()
    """Oldest first."""
    landed: tuple[TurnText, ...] = ()
    """Our turns that are known to be among the k."""
    in_thread: bool = False
    """Whether the user item is known to be there: a round of tools is recorded for it."""
    recorded: tuple[str, ...] = ()
    """The ids of the tool calls that are recorded, oldest first."""

    @property
    def quiet(self) -> bool:
        """Whether nothing of the turn can arrive any more."""
        return self.newest_call_s >= self.quiet_s

    @property
    def look_again(self) -> Later:
        """The verdict while something may still arrive."""
        return Later(wait_s=self.again_s, reason="look again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resend:
    """The items of the last call are not in the thread, and may be sent again now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """The user item is there, and an answer can no longer arrive."""


Verdict: TypeAlias = Reply | UseTools | Resend | Later | Unanswered | Diverge


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """A verdict, and earlier turns that are now known to have landed."""

    verdict: Verdict
    landed: tuple[TurnId, ...] = ()


def reconcile(log: Sequence[ThreadMessage], expected: Expectation) -> Reconciliation:
    """Return the verdict on a log, oldest message first."""
    users = [index for index, message in enumerate(log) if message.role == "user"]
    extras = users[expected.user_messages :]
    # Fewer than we know of: the read is stale, so nothing follows from it before T_QUIET.
    if len(users) < expected.user_messages + expected.in_thread:
        missing = Diverge(reason="user messages are missing")
        return Reconciliation(verdict=missing if expected.quiet else expected.look_again)
    if not extras:
        # The right number proves nothing if Telnyx merged this turn into the newest message.
        newest = log[users[-1]].text if users and expected.landed else None
        if newest is not None and not any(one.matches(newest) for one in expected.landed[::-1]):
            merged = Diverge(reason="the newest user message is not what it was")
            return Reconciliation(verdict=merged)
        return Reconciliation(verdict=_not_there(expected))
    if len(extras) == 1 and expected.text.matches(log[extras[0]].text):
        return Reconciliation(verdict=_judge_answer(_said_after(log, extras[0]), expected))
    return _with_late_arrivals(log, extras, expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp:
    """What a log holds beyond our records, after Postgres has lost its newest commits."""

    skipped: int
    """User messages that no waiting message repeats; they count as landed from now on."""
    verdict: Verdict | None
    """What became of the turn, which is there already; None = it is not."""
    complete: bool
    """Whether nothing follows that a later turn might be."""


def catch_up(log: Sequence[ThreadMessage], expected: Expectation) -> CaughtUp:
    """Find the open turn among the user messages that our records lack.

    They are ours, in the order they were sent: only this service writes to the conversation. Their
    messages come again in the same order; several turns may come again as one.
    """
    users = [index for index, message in enumerate(log) if message.role == "user"]
    extras = users[expected.user_messages :]
    for first in range(len(extras)):
        held = ""
        for last in range(first, len(extras)):
            held += f"{log[extras[last]].text}\n"
            if expected.text.matches(held):
                said = _said_after(log, extras[last])
                return CaughtUp(
                    skipped=last,
                    verdict=_judge_answer(said, expected),
                    complete=last == len(extras) - 1,
                )
            if len(held) > 2 * len(expected.text.text):
                break
    return CaughtUp(skipped=len(extras), verdict=None, complete=True)


def said_by_staff(log: Sequence[ThreadMessage], expected: Expectation) -> bool:
    """Whether what our staff wrote is there since the last user message that we know of."""
    users = [index for index, message in enumerate(log) if message.role == "user"]
    known = users[: expected.user_messages]
    return any(
        HUMAN_KEY in message.metadata and expected.text.matches(message.text)
        for message in log[known[-1] if known else 0 :]
    )


def sure_age_s(age_s: float, jumped_s: float | None) -> float:
    """Return an age of which no more is sure than the time since the clock jumped.

    One a little below zero is that of a call which is younger than the time of its claim, as the
    claim has waited for its lock. One far below is of a clock that was set back.
    """
    if jumped_s is None or -LONGEST_LOCK_S <= age_s <= jumped_s:
        return age_s
    return jumped_s


def _with_late_arrivals(
    log: Sequence[ThreadMessage], extras: Sequence[int], expected: Expectation
) -> Reconciliation:
    """Attribute surplus user messages to earlier turns that ended, and look at the rest."""
    # Each ended turn explains one message: people write the same text twice.
    waiting = list(expected.ended)
    arrived: dict[int, TurnId] = {}
    for index in extras:
        turn = next((one for one in waiting if one.matches(log[index].text)), None)
        if turn is not None and turn.id is not None:
            waiting.remove(turn)
            arrived[index] = turn.id
    if not arrived:
        return Reconciliation(verdict=Diverge(reason="user messages that are not ours"))
    ours = [message for index, message in enumerate(log) if not _belongs_to(index, log, arrived)]
    rest = reconcile(ours, replace(expected, ended=tuple(waiting)))
    return Reconciliation(verdict=rest.verdict, landed=(*arrived.values(), *rest.landed))


def _belongs_to(index: int, log: Sequence[ThreadMessage], arrived: Mapping[int, TurnId]) -> bool:
    """Whether a message is one of the late user items, or an answer to it."""
    start = next((at for at in range(index, -1, -1) if log[at].role == "user"), None)
    return start in arrived


def _not_there(expected: Expectation) -> Verdict:
    """Return whether items that are not in the thread may still arrive."""
    unknown_s = expected.newest_unknown_s
    if unknown_s is not None and unknown_s < expected.quiet_s:
        return expected.look_again
    return Resend()


def _said_after(log: Sequence[ThreadMessage], item: int) -> tuple[ThreadMessage, ...]:
    """Return the messages of assistant and tools that follow a user item.

    Messages of our staff are left out, and ones without a visible text: Telnyx may store reasoning
    like that.
    """
    said = []
    for message in log[item + 1 :]:
        if message.role == "user":
            break
        if HUMAN_KEY not in message.metadata and (
            message.role != "assistant" or message.tool_calls or visible_text(message.text)
        ):
            said.append(message)
    return tuple(said)


def _judge_answer(said: Sequence[ThreadMessage], expected: Expectation) -> Verdict:
    """Return the verdict by the last message that answers the user item."""
    asked = [call for one in said if one.role == "assistant" for call in one.tool_calls]
    fresh, missing = _compare(asked, expected.recorded)
    if missing:
        return Diverge(reason="tool calls are missing") if expected.quiet else expected.look_again
    last = said[-1] if said else None
    if last is None or last.role != "assistant":
        return Unanswered() if expected.quiet else expected.look_again
    if last.tool_calls:
        return UseTools(calls=fresh) if fresh else _not_there(expected)
    texts = [one.text for one in said if one.role == "assistant" and not one.tool_calls]
    return Reply(text="\n".join(map(visible_text, texts)), source=ReplySource.ADOPTED)


def _compare(
    asked: Sequence[ToolCall], recorded: Sequence[str]
) -> tuple[tuple[ToolCall, ...], bool]:
    """Return the tool calls that are not recorded yet, and whether a recorded one is missing.

    They are paired by position: a model may use an id again, or give none.
    """
    fits = all(
        call.call_id == known or not call.call_id or known.startswith(OWN_ID)
        for call, known in zip(asked, recorded, strict=False)
    )
    return tuple(asked[len(recorded) :]), len(asked) < len(recorded) or not fits
