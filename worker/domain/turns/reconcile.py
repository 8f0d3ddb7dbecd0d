"""Reconciles a turn with Telnyx's log before a second send: whether its user item landed.

Verdicts:
    Adopt       it landed and was answered: this is the reply
    UseTools    it landed, and the model asks for tools that are not recorded yet
    Resend      it is not there, and can no longer arrive
    LookAgain   it may still arrive, or its answer may
    Unanswered  it landed, and an answer can no longer arrive
    Diverge     the log contradicts our records: a person must decide

The turn is recognised by its ordinal, never by searching for its text: people write "ok" twice.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from worker.domain.ids import TurnId
from worker.domain.timing import Timing
from worker.domain.turns.calls import ToolCall
from worker.domain.turns.plan import Diverge, UseTools
from worker.domain.turns.thread import ThreadMessage

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
        return self.with_images and _folded(stored).startswith(_folded(self.text))


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
    ended: tuple[TurnText, ...] = ()
    """Oldest first."""
    landed: tuple[TurnText, ...] = ()
    """Our turns that are known to be among the k."""
    in_thread: bool = False
    """Whether the user item is known to be there: a round of tools is recorded for it."""
    recorded: tuple[str, ...] = ()
    """The ids of the tool calls that are recorded, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """The thread holds the turn and its answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resend:
    """The items of the last call are not in the thread, and may be sent again now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAgain:
    """Look again in `wait_s`. `landed` says whether the user item was seen."""

    wait_s: float
    landed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """The user item is there, and an answer can no longer arrive."""


Verdict: TypeAlias = Adopt | UseTools | Resend | LookAgain | Unanswered | Diverge


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """A verdict, and earlier turns that are now known to have landed."""

    verdict: Verdict
    landed: tuple[TurnId, ...] = ()


def same_text(one: str, other: str) -> bool:
    """Compare as Telnyx may have stored it: after NFKC and casefold, without space and controls."""
    return one == other or _folded(one) == _folded(other)


def _folded(text: str) -> str:
    # Telnyx may normalise letter forms and space; such a message must not count as foreign.
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(
        char for char in folded if not char.isspace() and unicodedata.category(char)[0] != "C"
    )


def reconcile(
    log: Sequence[ThreadMessage], expected: Expectation, timing: Timing, *, quiet_s: float
) -> Reconciliation:
    """Return the verdict on a log, oldest message first. `quiet_s` is the agent's T_QUIET."""
    users = [index for index, message in enumerate(log) if message.role == "user"]
    extras = users[expected.user_messages :]
    quiet = expected.newest_call_s >= quiet_s
    again = timing.look_again_s(expected.newest_call_s)
    # Fewer than we know of: the read is stale, so nothing follows from it before T_QUIET.
    if len(users) < expected.user_messages + expected.in_thread:
        if quiet:
            return Reconciliation(verdict=Diverge(reason="user messages are missing"))
        return Reconciliation(verdict=LookAgain(wait_s=again, landed=False))
    if not extras:
        # The right number proves nothing if Telnyx merged this turn into the newest message.
        newest = log[users[-1]].text if users else None
        if newest is not None and not _is_known(newest, expected.landed):
            return Reconciliation(
                verdict=Diverge(reason="the newest user message is not what it was")
            )
        return Reconciliation(verdict=_not_there(expected, again_s=again, quiet_s=quiet_s))
    if len(extras) == 1 and expected.text.matches(log[extras[0]].text):
        said = _said_after(log, extras[0])
        return Reconciliation(verdict=_judge_answer(said, expected, again_s=again, quiet_s=quiet_s))
    return _with_late_arrivals(log, extras, expected, timing, quiet_s=quiet_s)


def _is_known(text: str, landed: Sequence[TurnText]) -> bool:
    """Whether a message is one of ours: it is not if Telnyx merged a later one into it."""
    return not landed or any(one.matches(text) for one in reversed(landed))


def _with_late_arrivals(
    log: Sequence[ThreadMessage],
    extras: Sequence[int],
    expected: Expectation,
    timing: Timing,
    *,
    quiet_s: float,
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
    rest = reconcile(ours, replace(expected, ended=tuple(waiting)), timing, quiet_s=quiet_s)
    return Reconciliation(verdict=rest.verdict, landed=(*arrived.values(), *rest.landed))


def _belongs_to(index: int, log: Sequence[ThreadMessage], arrived: Mapping[int, TurnId]) -> bool:
    """Whether a message is one of the late user items, or an answer to it."""
    start = next((at for at in range(index, -1, -1) if log[at].role == "user"), None)
    return start in arrived


def _not_there(expected: Expectation, *, again_s: float, quiet_s: float) -> Verdict:
    """Return whether items that are not in the thread may still arrive."""
    unknown_s = expected.newest_unknown_s
    if unknown_s is not None and unknown_s < quiet_s:
        return LookAgain(wait_s=again_s, landed=False)
    return Resend()


def _said_after(log: Sequence[ThreadMessage], item: int) -> tuple[ThreadMessage, ...]:
    """Return the messages of assistant and tools that follow a user item.

    Messages of our staff are left out, and empty ones: Telnyx stores reasoning like that.
    """
    said = []
    for message in log[item + 1 :]:
        if message.role == "user":
            break
        if HUMAN_KEY not in message.metadata and (
            message.role != "assistant" or message.tool_calls or message.text.strip()
        ):
            said.append(message)
    return tuple(said)


def _judge_answer(
    said: Sequence[ThreadMessage], expected: Expectation, *, again_s: float, quiet_s: float
) -> Verdict:
    """Return the verdict by the last message that answers the user item."""
    quiet = expected.newest_call_s >= quiet_s
    asked = [call for one in said if one.role == "assistant" for call in one.tool_calls]
    fresh, missing = _compare(asked, expected.recorded)
    if missing:
        if quiet:
            return Diverge(reason="tool calls are missing")
        return LookAgain(wait_s=again_s, landed=True)
    last = said[-1] if said else None
    if last is None or last.role != "assistant":
        return Unanswered() if quiet else LookAgain(wait_s=again_s, landed=True)
    if last.tool_calls:
        if fresh:
            return UseTools(calls=fresh)
        return _not_there(expected, again_s=again_s, quiet_s=quiet_s)
    texts = [one.text for one in said if one.role == "assistant" and not one.tool_calls]
    return Adopt(text="\n".join(texts))


def _compare(
    asked: Sequence[ToolCall], recorded: Sequence[str]
) -> tuple[tuple[ToolCall, ...], bool]:
    """Return the tool calls that are not recorded yet, and whether a recorded one is missing.

    Ids are counted, for a model may use one again in a later round.
    """
    left = Counter(recorded)
    fresh = []
    for call in asked:
        if left[call.call_id] > 0:
            left[call.call_id] -= 1
        else:
            fresh.append(call)
    return tuple(fresh), left.total() > 0
