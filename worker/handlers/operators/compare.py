"""Compares Telnyx's thread with our turns, row by row.

The k-th user message belongs to the k-th landed turn, counted after the messages that the thread
held at the start. So a message that somebody else added makes its row and all later rows differ.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from worker.domain.text.normal_forms import same_text
from worker.domain.turns.reconcile import HUMAN_KEY
from worker.domain.turns.records import ThreadMessage
from worker.store.reports.conversations import (
    ConversationReports,
    ConversationSummary,
    ConversationTurn,
)
from worker.telnyx.conversations import Conversations

Match: TypeAlias = Literal[
    "matches",
    "differs",  # another text than that of the turn in this place
    "before",  # a message that the thread held when it was adopted
    "not counted",  # a turn that may have landed, or is being answered
    "answer",  # assistant or tools, answering the user message above
    "said",  # a message of our staff
    "only there",
    "only here",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRow:
    """A message of the thread, a turn of ours, or both."""

    verdict: Match
    message: ThreadMessage | None
    turn: ConversationTurn | None


def compare(
    mapping: ConversationSummary, *, ledger: ConversationReports, telnyx: Conversations
) -> list[ComparedRow]:
    """Pair messages with turns. Raises `NotFoundError`: the thread is gone."""
    thread = telnyx.messages(mapping.telnyx_id) if mapping.telnyx_id is not None else ()
    turns = ledger.turns(mapping.id)
    rows = list(_paired(thread, turns, mapping.base_user_messages))
    seen = {row.turn.id for row in rows if row.turn}
    for turn in turns:
        if turn.id not in seen:
            later = (place for place, row in enumerate(rows) if row.turn and row.turn.id > turn.id)
            one = ComparedRow(verdict="only here", message=None, turn=turn)
            rows.insert(next(later, len(rows)), one)
    return rows


def _paired(
    thread: Sequence[ThreadMessage], turns: Sequence[ConversationTurn], base: int
) -> Iterator[ComparedRow]:
    landed = [one for one in turns if one.landed and not one.is_ours]
    said = [one for one in turns if one.is_ours]
    absent = [one for one in turns if not one.is_ours and not one.landed]
    loose = [one for one in absent if one.landed is None or one.state == "open"]
    number = -base
    for message in thread:
        turn: ConversationTurn | None = None
        verdict: Match = "answer"
        if message.role == "user":
            if number < 0:
                verdict = "before"
            elif number < len(landed):
                turn = landed[number]
                same = turn.is_redacted or same_text(message.text, turn.input_text)
                verdict = "matches" if same else "differs"
            else:
                turn = _take(loose, message.text)
                verdict = "not counted" if turn else "only there"
            number += 1
        elif HUMAN_KEY in message.metadata:
            verdict, turn = "said", _take(said, message.text)
        yield ComparedRow(verdict=verdict, message=message, turn=turn)


def _take(turns: list[ConversationTurn], text: str) -> ConversationTurn | None:
    """Remove the oldest turn with this text from the list and return it."""
    found = next((one for one in turns if same_text(text, one.input_text)), None)
    if found is not None:
        turns.remove(found)
    return found
