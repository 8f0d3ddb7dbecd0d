"""A thread as Telnyx has it beside the turns that we know of, row by row.

The k-th user message belongs to the k-th landed turn, counted from what the thread held before; so
what somebody else wrote in between shows as a row that differs, and so do all rows after it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from worker.domain.ids import TurnId
from worker.domain.turns.reconcile import HUMAN_KEY, same_text
from worker.domain.turns.thread import ThreadMessage
from worker.store.reports.conversations import (
    ConversationReports,
    ConversationSummary,
    ConversationTurn,
)
from worker.telnyx.conversations import Conversations


class Verdict(StrEnum):
    """How one row of the comparison stands."""

    MATCHES = "matches"
    DIFFERS = "differs"
    """The turn that should be here says something else."""
    BEFORE = "before"
    """It was in the thread when we took that over."""
    NOT_COUNTED = "not counted"
    """It is a turn that may have landed, or is being answered: nobody has counted it yet."""
    ANSWER = "answer"
    """What assistant and tools said to the user message above."""
    SAID = "said"
    """One of our people said it through us."""
    ONLY_THERE = "only there"
    ONLY_HERE = "only here"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRow:
    """One line: a message of the thread, a turn of ours, or both. Never neither."""

    verdict: Verdict
    message: ThreadMessage | None
    turn: ConversationTurn | None


@dataclass(frozen=True, kw_only=True)
class CompareThread:
    """The use case behind `worker conversations show`."""

    ledger: ConversationReports
    telnyx: Conversations

    def __call__(self, mapping: ConversationSummary) -> list[ComparedRow]:
        """Read both sides and put them side by side. Raises `NotFoundError`: the thread is gone."""
        thread: Sequence[ThreadMessage] = ()
        if mapping.telnyx_id is not None:
            thread = self.telnyx.messages(mapping.telnyx_id)
        turns = self.ledger.turns(mapping.id)
        return compare(thread, turns, base=mapping.base_user_messages)


def compare(
    thread: Sequence[ThreadMessage], turns: Sequence[ConversationTurn], *, base: int
) -> list[ComparedRow]:
    """Pair messages with turns, and put the turns that found none where they were opened."""
    paired = list(_paired(thread, turns, base))
    seen = {row.turn.id for row in paired if row.turn}
    left = [turn for turn in turns if turn.id not in seen]
    rows: list[ComparedRow] = []
    newest = TurnId(0)
    for row in paired:
        if row.turn and row.turn.id > newest:
            newest = row.turn.id
            while left and left[0].id < newest:
                rows.append(_only_here(left.pop(0)))
        rows.append(row)
    return rows + [_only_here(turn) for turn in left]


def _only_here(turn: ConversationTurn) -> ComparedRow:
    return ComparedRow(verdict=Verdict.ONLY_HERE, message=None, turn=turn)


def _paired(
    thread: Sequence[ThreadMessage], turns: Sequence[ConversationTurn], base: int
) -> Iterator[ComparedRow]:
    landed = [one for one in turns if one.landed and not one.is_ours]
    loose = [one for one in turns if not one.is_ours and not one.landed and _may_be_there(one)]
    said = [one for one in turns if one.is_ours]
    number = -base
    for message in thread:
        turn: ConversationTurn | None = None
        verdict = Verdict.ANSWER
        if message.role == "user":
            if number < 0:
                verdict = Verdict.BEFORE
            elif number < len(landed):
                turn = landed[number]
                same = turn.is_redacted or same_text(message.text, turn.input_text)
                verdict = Verdict.MATCHES if same else Verdict.DIFFERS
            else:
                turn = _take(loose, message.text)
                verdict = Verdict.NOT_COUNTED if turn else Verdict.ONLY_THERE
            number += 1
        elif HUMAN_KEY in message.metadata:
            verdict, turn = Verdict.SAID, _take(said, message.text)
        yield ComparedRow(verdict=verdict, message=message, turn=turn)


def _may_be_there(turn: ConversationTurn) -> bool:
    return turn.landed is None or turn.state == "open"


def _take(turns: list[ConversationTurn], text: str) -> ConversationTurn | None:
    """Take the oldest turn with this text out of the list."""
    found = next((one for one in turns if same_text(text, one.input_text)), None)
    if found is not None:
        turns.remove(found)
    return found
