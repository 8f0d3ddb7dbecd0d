"""Checks the demo's promises against the tables and the simulator's own log."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from worker.bootstrap.reports import open_reports
from worker.client import MessageKey, Outcome, Outcomes
from worker.sandbox.simulator import overlaps, read_log
from worker.sandbox.simulator.record.log import Entry, user_texts
from worker.store.reports.conversations import LandedTurn

Rows: TypeAlias = Sequence[tuple[MessageKey, Outcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise and whether it was kept."""

    promise: str
    kept: bool
    found: str = ""
    """The state that was found instead."""


def check_all(
    keys: Sequence[MessageKey], *, twice: Sequence[MessageKey], database_url: str, log: Path
) -> list[Check]:
    """Check the rows of these messages. `twice` are those of them that were sent two times."""
    with Outcomes(database_url) as outcomes, open_reports(database_url) as reports:
        rows = outcomes.by_key(keys)
        ours = {outcome.turn for _, outcome in rows if outcome.turn is not None}
        turns = reports.conversations.landed_beside(ours)
    entries = read_log(log)
    return [
        _every_message_answered(keys, rows),
        _one_reply_a_turn(rows, [turn for turn in turns if turn.id in ours]),
        _repetition_changed_nothing(rows, twice),
        _telnyx_saw_each_once(turns, entries),
        _one_at_a_time(entries, {str(turn.conversation) for turn in turns}),
    ]


def _every_message_answered(keys: Sequence[MessageKey], rows: Rows) -> Check:
    answered = [key for key, one in rows if one.outcome == "answered" and one.turn is not None]
    return Check(
        promise=f"{len(keys)} messages: one row, one turn and one outcome each",
        kept=answered == list(keys),
        found=f"{len(rows)} rows, outcomes {dict(Counter(one.outcome for _, one in rows))}",
    )


def _one_reply_a_turn(rows: Rows, ours: Sequence[LandedTurn]) -> Check:
    members = Counter(outcome.turn for _, outcome in rows)
    wrong = [turn.id for turn in ours if turn.replies != 1 or turn.messages != members[turn.id]]
    return Check(
        promise=f"{len(ours)} turns: one reply each",
        kept=not wrong and len(ours) == len(members),
        found=f"turns {wrong} have other numbers of replies or messages; {len(ours)} landed",
    )


def _repetition_changed_nothing(rows: Rows, twice: Sequence[MessageKey]) -> Check:
    seen = Counter(key for key, _ in rows)
    return Check(
        promise=f"{len(twice)} message was sent twice: accepted once, answered once",
        kept=all(seen[key] == 1 for key in twice),
        found=f"rows: {[seen[key] for key in twice]}",
    )


def _telnyx_saw_each_once(turns: Sequence[LandedTurn], entries: Sequence[Entry]) -> Check:
    """Compare whole conversations, earlier runs included: user items are the turns' inputs."""
    wrong = []
    for conversation in dict.fromkeys(turn.conversation for turn in turns):
        inputs = tuple(turn.input_text for turn in turns if turn.conversation == conversation)
        if inputs != user_texts(entries, str(conversation)):
            wrong.append(str(conversation))
    return Check(
        promise="Telnyx's side: every input arrived once, in order, nothing else did",
        kept=bool(turns) and not wrong,
        found=f"conversations {wrong} differ from the turns" if wrong else "no turn landed",
    )


def _one_at_a_time(entries: Sequence[Entry], conversations: set[str]) -> Check:
    both = [one for one in overlaps(entries, slack_s=0.1) if one.conversation_id in conversations]
    return Check(
        promise="Telnyx's side: never two requests of one conversation at once",
        kept=not both,
        found=f"{len(both)} pairs",
    )
