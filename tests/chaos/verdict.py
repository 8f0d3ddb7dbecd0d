"""Whether a campaign kept the promises: the oracle's invariants, and the numbers people wrote.

The numbers are checked without the service's tables: only from what was written and what Telnyx
stored. Order is that in which people wrote, whatever the service's clock says of it. A message
whose turn was given up is excused from the order, never from being said twice.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from tests.chaos.load import Group
from tests.chaos.mix import QUIET_S, TIMING
from tests.support.oracle import Delivered, Violation
from worker.handlers.turns.refusals import MIN_REFUSALS
from worker.sandbox.simulator import Entry
from worker.sandbox.simulator.record.events import ConversationCreated, MessageStored

DEFECTS = frozenset({"task_failed", "not_understood", "refused", "no_answer", "unacked_unreadable"})
"""Reasons of dead letters that nothing in the mix explains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a text belongs: whose it is, and in which of their groups."""

    user: str
    group: int


def places(plan: Mapping[str, Sequence[Group]]) -> dict[str, Place]:
    """Map each text to its place."""
    return {
        message.text: Place(user=user, group=number)
        for user, groups in plan.items()
        for number, group in enumerate(groups)
        for message in group.messages
    }


def said(log: Sequence[Entry]) -> dict[str, list[str]]:
    """Give what was said at Telnyx, line by line, by the metadata's name of the user and agent."""
    whose: dict[str, str] = {}
    lines: dict[str, list[str]] = defaultdict(list)
    for entry in log:
        match entry.event:
            case ConversationCreated(conversation=made):
                whose[made.id] = made.metadata.get("worker_user", made.id)
            case MessageStored(conversation_id=thread, message=message) if message.role == "user":
                lines[whose[thread]] += (message.text or "").split("\n")
            case _:
                pass
    return lines


def check_numbers(
    lines: Mapping[str, Sequence[str]],
    places: Mapping[str, Place],
    *,
    answered: AbstractSet[str],
    excused: AbstractSet[str] = frozenset(),
) -> Iterator[Violation]:
    """Find what was lost, doubled, mixed up between people, or out of order.

    `answered`: texts that have a reply of the model, so that Telnyx must have heard them.
    `excused`: those of turns that were given up; they may be missing, or late.
    """
    heard: set[str] = set()
    for name, texts in lines.items():
        latest = -1
        owners = {places[text].user for text in texts if text in places}
        if len(owners) > 1:
            yield Violation("numbers", f"thread {name} holds words of {sorted(owners)}")
        for text in texts:
            place = places.get(text)
            if place is None:
                yield Violation("numbers", f"thread {name} holds what nobody wrote")
                continue
            if text in heard:
                yield Violation("doubled", f"{text} was said twice at Telnyx")
            heard.add(text)
            if text in excused:
                continue
            if place.group < latest:
                yield Violation("order", f"{text} came after what was written later")
            latest = max(latest, place.group)
    for text in sorted(answered - heard):
        yield Violation("lost", f"{text} was answered and never said at Telnyx")


def check_acceptance(
    accepted: Mapping[int, Sequence[str]], places: Mapping[str, Place]
) -> Iterator[Violation]:
    """Find messages that the service sorts before what their sender wrote earlier, by user."""
    for user_id, texts in accepted.items():
        latest = -1
        for text in texts:
            if places[text].group < latest:
                yield Violation("acceptance", f"user {user_id}: {text} sorts after a later one")
            latest = max(latest, places[text].group)


def check_replies(
    arrived: Sequence[Delivered],
    answered: Mapping[int, Sequence[str]],
    places: Mapping[str, Place],
    *,
    excused: AbstractSet[str],
) -> Iterator[Violation]:
    """Find replies that arrived after one to what was written later."""
    latest: dict[int, int] = {}
    for one in arrived:
        groups = [places[t].group for t in answered.get(one.delivery_id, ()) if t not in excused]
        if groups and min(groups) < latest.get(one.user_id, -1):
            yield Violation(
                "order", f"delivery {one.delivery_id} came after a reply to later words"
            )
        latest[one.user_id] = max(latest.get(one.user_id, -1), *groups, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """A turn that ended without an answer of the model."""

    turn_id: int
    failure: str
    unknown_calls: int
    doubtful_s: float | None
    """From its first unknown call or 5xx to its end; None = there was none."""
    since_newest_s: float | None
    """From its newest call to its end."""
    item_stands_alone: bool
    """Its user item is in Telnyx's log, and no output of the same request."""
    refusals_withdrawn: int = 0
    """How many of its calls were refused while its model was withdrawn."""


def explanation(turn: GivenUp) -> str | None:
    """Name the injected fault that allows a turn to be given up; None = nothing allows it."""
    if turn.failure == "split":
        return "refused while its model was withdrawn, and taken up again message by message"
    if turn.failure == "refused" and turn.refusals_withdrawn >= MIN_REFUSALS:
        return "refused each time, while its model was withdrawn twice"
    if turn.failure != "gave_up":
        return None
    if turn.unknown_calls >= TIMING.max_unknown_calls:
        return "three calls of unknown outcome"
    if turn.doubtful_s is not None and turn.doubtful_s >= TIMING.give_up_after_s:
        return "too long since its first doubtful call"
    quiet = turn.since_newest_s is not None and turn.since_newest_s >= QUIET_S
    if turn.item_stands_alone and quiet:
        return "Telnyx kept the words and never answered"
    return None


def check_given_up(turns: Sequence[GivenUp]) -> Iterator[Violation]:
    """Find turns that were given up without need."""
    for turn in turns:
        if explanation(turn) is None:
            yield Violation("given up", f"turn {turn.turn_id}, {turn.failure}: no fault allows it")


def check_notes(noted: Sequence[str], names: AbstractSet[str]) -> Iterator[Violation]:
    """Find what a tool that honours no key did twice, or for nobody."""
    for text, times in Counter(noted).items():
        if times > 1:
            yield Violation("tools", f"{text} was noted {times} times")
        if text not in names:
            yield Violation("tools", "something was noted that nobody wrote")


def check_letters(reasons: Mapping[str, int], *, refused: int = 0) -> Iterator[Violation]:
    """Find dead letters that only a defect makes: nothing here refuses a good message.

    `refused`: turns that two outages explain; `check_given_up` finds any other.
    """
    for reason in sorted(DEFECTS & reasons.keys()):
        number = reasons[reason] - (refused if reason == "refused" else 0)
        if number > 0:
            yield Violation("letters", f"{number} dead letters with the reason {reason}")
