"""Outcomes of messages, with their turns and replies. Reads only."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import func, select

from worker.domain.ids import TelnyxConversationId, TurnId
from worker.domain.messages import ChannelAddress
from worker.store.database import Database
from worker.store.rows import value_of
from worker.store.schema import Conversation, Message, Reply, Turn
from worker.store.selects import fetch, rows_of, select_as
from worker.store.sql import sql

# As arrays: of `IN` each key would be five parameters, and Postgres takes 65,535.
_FIND = sql("""
SELECT asked.place - 1 AS place, m.state, m.outcome, m.turn_id, r.text AS reply, r.source,
    CAST(extract(epoch FROM m.finished_at - m.accepted_at) AS float8) AS took_s
FROM unnest(CAST(:channels AS text[]), CAST(:recipients AS text[]), CAST(:addresses AS text[]),
            CAST(:threads AS text[]), CAST(:message_ids AS text[]))
     WITH ORDINALITY AS asked (channel, recipient, address, thread, message_id, place)
JOIN channel_users u ON u.channel = asked.channel AND u.recipient = asked.recipient
    AND u.address = asked.address AND u.thread = asked.thread
JOIN messages m ON m.channel_user_id = u.id AND m.message_id = asked.message_id
LEFT JOIN replies r ON r.turn_id = m.turn_id
ORDER BY asked.place
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageKey:
    """The producer's name of a message; it fits one row."""

    who: ChannelAddress
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one message has come."""

    key: MessageKey
    state: str
    outcome: str | None
    """None while it waits or its turn runs."""
    turn_id: TurnId | None
    reply: str | None
    source: str | None
    took_s: float | None
    """From acceptance to the outcome."""


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
    """Outcomes, found by a producer's own keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, keys: Sequence[MessageKey]) -> list[Progress]:
        """Return the accepted ones, in the order of `keys`; others are left out."""
        values = {
            "channels": [key.who.channel for key in keys],
            "recipients": [key.who.recipient for key in keys],
            "addresses": [key.who.address for key in keys],
            "threads": [key.who.thread for key in keys],
            "message_ids": [key.message_id for key in keys],
        }
        with self._database.statement() as connection:
            rows = connection.execute(_FIND, values)
            return [value_of(Progress, row, key=keys[row.place]) for row in rows]

    def conversations_of(self, turns: Collection[TurnId]) -> list[TelnyxConversationId]:
        """Return Telnyx's ids of the conversations that these turns were part of."""
        asked = select(Conversation.telnyx_conversation_id).distinct().join(Turn)
        with self._database.statement() as connection:
            return [
                TelnyxConversationId(row[0])
                for row in rows_of(connection, asked.where(Turn.id.in_(turns)))
            ]

    def landed_turns(self, conversations: Collection[UUID]) -> Sequence[LandedTurn]:
        """Return all turns that reached these conversations, in the order they were opened."""
        asked = _LANDED.where(Conversation.telnyx_conversation_id.in_(conversations))
        with self._database.statement() as connection:
            return fetch(connection, LandedTurn, asked)
