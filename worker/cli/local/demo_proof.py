"""Checks the demo's promises against the tables and the simulator's own log."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from worker.bootstrap.reports import open_reports
from worker.client import MessageKey, Outcome, Outcomes
from worker.sandbox.simulator import overlaps, read_log
from worker.sandbox.simulator.record.log import Entry, user_texts
from worker.store.reports.conversations import LandedTurn

Check: TypeAlias = tuple[str, bool, str]
"""A promise, whether it was kept, and the state that was found instead."""


def check_all(
    keys: Sequence[MessageKey], *, twice: Sequence[MessageKey], database_url: str, log: Path
) -> list[Check]:
    """Check the rows of these messages. `twice` are those of them that were sent two times."""
    with Outcomes(database_url) as outcomes, open_reports(database_url) as reports:
        rows = outcomes.by_key(keys)
        members = Counter(outcome.turn for _, outcome in rows if outcome.turn is not None)
        turns = reports.conversations.landed_beside(set(members))
    return [*_of_tables(keys, rows, members, turns, twice), *_of_telnyx(turns, read_log(log))]


def _of_tables(
    keys: Sequence[MessageKey],
    rows: Sequence[tuple[MessageKey, Outcome]],
    members: Counter[int],
    turns: Sequence[LandedTurn],
    twice: Sequence[MessageKey],
) -> Iterator[Check]:
    answered = [key for key, one in rows if one.outcome == "answered" and one.turn is not None]
    yield (
        f"{len(keys)} messages: one row, one turn and one outcome each",
        answered == list(keys),
        f"{len(rows)} rows, outcomes {dict(Counter(one.outcome for _, one in rows))}",
    )
    ours = [turn for turn in turns if turn.id in members]
    wrong = [turn.id for turn in ours if turn.replies != 1 or turn.messages != members[turn.id]]
    yield (
        f"{len(ours)} turns: one reply each",
        not wrong and len(ours) == len(members),
        f"turns {wrong} have other numbers of replies or messages; {len(ours)} landed",
    )
    seen = Counter(key for key, _ in rows)
    yield (
        f"{len(twice)} message was sent twice: accepted once, answered once",
        all(seen[key] == 1 for key in twice),
        f"rows: {[seen[key] for key in twice]}",
    )


def _of_telnyx(turns: Sequence[LandedTurn], entries: Sequence[Entry]) -> Iterator[Check]:
    """Compare whole conversations, earlier runs included: user items are the turns' inputs."""
    inputs: dict[str, list[str]] = {}
    for turn in turns:
        inputs.setdefault(str(turn.conversation), []).append(turn.input_text)
    wrong = [one for one, texts in inputs.items() if tuple(texts) != user_texts(entries, one)]
    yield (
        "Telnyx's side: every input arrived once, in order, nothing else did",
        bool(turns) and not wrong,
        f"conversations {wrong} differ from the turns" if wrong else "no turn landed",
    )
    both = [one for one in overlaps(entries, slack_s=0.1) if one.conversation_id in inputs]
    yield (
        "Telnyx's side: never two requests of one conversation at once",
        not both,
        f"{len(both)} pairs",
    )
