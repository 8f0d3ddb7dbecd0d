"""Turns that Telnyx's log has, for the demo to compare both sides. Reads only."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select

from worker.domain.ids import TelnyxConversationId, TurnId
from worker.store.database import Database
from worker.store.schema.turns import Conversation, Reply, Turn
from worker.store.schema.users import Message
from worker.store.selects import fetch, select_as


@dataclass(frozen=True, slots=True, kw_only=True)
class LandedTurn:
    """A turn whose user item is in Telnyx's log."""

    id: TurnId
    conversation: TelnyxConversationId
    input_text: str
    replies: int
    messages: int


_LANDED: Final = (
    select_as(
        LandedTurn,
        Turn,
        conversation=Conversation.telnyx_conversation_id,
        replies=select(func.count()).where(Reply.turn_id == Turn.id).scalar_subquery(),
        messages=select(func.count()).where(Message.turn_id == Turn.id).scalar_subquery(),
    )
    .join(Conversation, Conversation.id == Turn.conversation_id)
    .where(Turn.landed.is_(True))
    .order_by(Turn.id)
)


class OutcomeStore:
    """Turns and the number of their replies and messages."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def landed_beside(self, turns: Collection[int]) -> Sequence[LandedTurn]:
        """Return all landed turns of the conversations that these turns belong to, in order."""
        # `correlate(None)`: or its `turns` would be those of the query around it.
        theirs = select(Turn.conversation_id).where(Turn.id.in_(turns)).correlate(None)
        with self._database.statement() as connection:
            return fetch(connection, LandedTurn, _LANDED.where(Conversation.id.in_(theirs)))
