"""What became of messages: their outcomes, turns and replies. Reads only."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from worker.domain.ids import TelnyxConversationId, TurnId
from worker.domain.messages import ChannelAddress
from worker.store.database import Database
from worker.store.sql import sql

_FIND = sql("""
SELECT asked.place - 1 AS place, m.state, m.outcome, m.turn_id, r.text AS reply, r.source,
       extract(epoch FROM m.finished_at - m.accepted_at) AS took_s
FROM unnest(CAST(:channels AS text[]), CAST(:recipients AS text[]), CAST(:addresses AS text[]),
            CAST(:threads AS text[]), CAST(:message_ids AS text[]))
     WITH ORDINALITY AS asked (channel, recipient, address, thread, message_id, place)
JOIN channel_users u ON u.channel = asked.channel AND u.recipient = asked.recipient
    AND u.address = asked.address AND u.thread = asked.thread
JOIN messages m ON m.channel_user_id = u.id AND m.message_id = asked.message_id
LEFT JOIN replies r ON r.turn_id = m.turn_id
ORDER BY asked.place
""")
_TURNS = sql("""
SELECT t.id, t.input_text, c.telnyx_conversation_id,
       (SELECT count(*) FROM replies r WHERE r.turn_id = t.id) AS replies,
       (SELECT count(*) FROM messages m WHERE m.turn_id = t.id) AS messages
FROM turns t JOIN conversations c ON c.id = t.conversation_id
WHERE c.telnyx_conversation_id = ANY(:conversations) AND t.landed
ORDER BY t.id
""")
_CONVERSATIONS = sql("""
SELECT DISTINCT c.telnyx_conversation_id FROM turns t JOIN conversations c
    ON c.id = t.conversation_id WHERE t.id = ANY(:turns)
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageKey:
    """What a producer knows of a message; it names one row."""

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


class OutcomeStore:
    """Replies, found by what a producer knows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, keys: Sequence[MessageKey]) -> list[Progress]:
        """Give those that are accepted, in the order of `keys`; others are left out."""
        values = {
            "channels": [key.who.channel for key in keys],
            "recipients": [key.who.recipient for key in keys],
            "addresses": [key.who.address for key in keys],
            "threads": [key.who.thread for key in keys],
            "message_ids": [key.message_id for key in keys],
        }
        with self._database.statement() as connection:
            return [
                Progress(
                    key=keys[row.place],
                    state=row.state,
                    outcome=row.outcome,
                    turn_id=None if row.turn_id is None else TurnId(row.turn_id),
                    reply=row.reply,
                    source=row.source,
                    took_s=None if row.took_s is None else float(row.took_s),
                )
                for row in connection.execute(_FIND, values)
            ]

    def conversations_of(self, turns: Collection[TurnId]) -> list[TelnyxConversationId]:
        """Give Telnyx's ids of the conversations that these turns were part of."""
        with self._database.statement() as connection:
            found = connection.execute(_CONVERSATIONS, {"turns": list(turns)})
            return [TelnyxConversationId(row[0]) for row in found]

    def landed_turns(self, conversations: Collection[UUID]) -> list[LandedTurn]:
        """Give all turns that reached these conversations, in the order they were opened."""
        with self._database.statement() as connection:
            return [
                LandedTurn(
                    id=TurnId(row.id),
                    conversation=TelnyxConversationId(row.telnyx_conversation_id),
                    input_text=row.input_text,
                    replies=row.replies,
                    messages=row.messages,
                )
                for row in connection.execute(_TURNS, {"conversations": list(conversations)})
            ]
