"""What the demo proves: read from the tables and from the simulator's own log."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.sandbox.simulator import overlaps, read_log
from worker.sandbox.simulator.record.log import Entry, user_texts
from worker.store.reports.outcomes import LandedTurn, MessageKey, OutcomeStore, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise and whether it was kept."""

    promise: str
    kept: bool
    found: str = ""
    """What was found instead."""


def check_all(
    keys: Sequence[MessageKey], *, twice: Sequence[MessageKey], replies: OutcomeStore, log: Path
) -> list[Check]:
    """Check the rows of these messages. `twice` are those of them that were sent two times."""
    rows = replies.find(keys)
    ours = {row.turn_id for row in rows if row.turn_id is not None}
    conversations = replies.conversations_of(ours)
    turns = replies.landed_turns(conversations)
    entries = read_log(log)
    return [
        _every_message_answered(keys, rows),
        _one_reply_a_turn(rows, [turn for turn in turns if turn.id in ours]),
        _repetition_changed_nothing(rows, twice),
        _telnyx_saw_each_once(turns, entries),
        _one_at_a_time(entries, {str(one) for one in conversations}),
    ]


def _every_message_answered(keys: Sequence[MessageKey], rows: Sequence[Progress]) -> Check:
    answered = [row.key for row in rows if row.outcome == "answered" and row.turn_id is not None]
    outcomes = Counter(str(row.outcome) for row in rows)
    return Check(
        promise=f"{len(keys)} messages: one row, one turn and one outcome each",
        kept=answered == list(keys),
        found=f"{len(rows)} rows, outcomes {dict(outcomes)}",
    )


def _one_reply_a_turn(rows: Sequence[Progress], ours: Sequence[LandedTurn]) -> Check:
    members = Counter(row.turn_id for row in rows)
    wrong = [turn.id for turn in ours if turn.replies != 1 or turn.messages != members[turn.id]]
    return Check(
        promise=f"{len(ours)} turns: one reply each",
        kept=not wrong and len(ours) == len(members),
        found=f"turns {wrong} have other numbers of replies or messages; {len(ours)} landed",
    )


def _repetition_changed_nothing(rows: Sequence[Progress], twice: Sequence[MessageKey]) -> Check:
    seen = Counter(row.key for row in rows)
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
