"""What one of our people says to a channel user: turn, reply and delivery, committed together.

    with an open conversation   the turn stays open until a worker has added it to Telnyx's log
    without                     the turn has ended; there is no log

A turn of kind `human` with a reply of its own is what we said; one without is what was written to
us while a person had taken over.
"""

from dataclasses import dataclass
from uuid import UUID

from worker.domain.ids import ChannelUserId, ConversationId, DeliveryId, TurnId
from worker.domain.routing import Agent
from worker.domain.states import DeliveryState
from worker.domain.turns.records import Lease
from worker.store.database import Database
from worker.store.operators.interventions import fence, note
from worker.store.sql import Connection, sql

# `landed` false: it is no user item, so it never counts among the k of a read-back.
_SAY = sql("""
WITH turn AS (
    INSERT INTO turns (channel_user_id, conversation_id, agent, agent_version, kind, input_text,
        state, landed, opened_at, finished_at)
    VALUES (:user_id, :conversation_id, :agent, :agent_version, 'human', :text,
        CASE WHEN :stays_open THEN 'open' ELSE 'answered' END, false, service_now(),
        CASE WHEN NOT :stays_open THEN service_now() END)
    RETURNING id
), marked AS (
    UPDATE channel_users SET open_turn_id = turn.id, due_at = service_now()
    FROM turn WHERE channel_users.id = :user_id AND :stays_open
), reply AS (
    INSERT INTO replies (turn_id, text, source, created_at)
    SELECT id, :text, 'human', service_now() FROM turn RETURNING id
)
INSERT INTO deliveries (reply_id, channel_user_id, channel, idempotency_key, state, due_at,
    finished_at, created_at)
SELECT reply.id, :user_id, :channel, :key, :state,
    CASE WHEN :state = 'pending' THEN service_now() END,
    CASE WHEN :state <> 'pending' THEN service_now() END, service_now()
FROM reply RETURNING id, (SELECT id FROM turn) AS turn_id
""")
_SAID = sql("""
SELECT t.id AS turn_id, d.id, t.conversation_id IS NOT NULL AS in_thread
FROM turns t JOIN replies r ON r.turn_id = t.id JOIN deliveries d ON d.reply_id = r.id
WHERE t.channel_user_id = :user_id AND t.kind = 'human' AND d.idempotency_key = :key
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffMessage:
    """What is to be said."""

    text: str
    key: UUID
    """Of the delivery; the same words under the same key are said once."""
    agent: Agent
    channel: str
    first_state: DeliveryState
    conversation: ConversationId | None
    """Whose log they are to be added to; None = they are only delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What was committed."""

    turn: TurnId
    delivery: DeliveryId
    in_thread: bool
    """Whether a worker adds it to Telnyx's log."""
    again: bool = False
    """It had been said before, and nothing changed."""


class SayingStore:
    """Words of our own people."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, user_id: ChannelUserId, key: UUID) -> Said | None:
        """Give what was said under this key."""
        with self._database.statement() as connection:
            return _find(connection, user_id, key)

    def say(self, lease: Lease, message: StaffMessage) -> Said:
        """Commit it all, or nothing. Raises `StaleLeaseError`."""
        values = {
            "user_id": lease.user_id,
            "conversation_id": message.conversation,
            "agent": message.agent.name,
            "agent_version": message.agent.version,
            "text": message.text,
            "stays_open": message.conversation is not None,
            "channel": message.channel,
            "key": message.key,
            "state": message.first_state,
        }
        with self._database.transaction() as connection:
            fence(connection, lease, mended=False, go_on=False)
            before = _find(connection, lease.user_id, message.key)
            if before is not None:
                return before
            row = connection.execute(_SAY, values).one()
            turn = TurnId(row.turn_id)
            note(connection, "said", lease, turn=turn, facts={"delivery": row.id})
        in_thread = message.conversation is not None
        return Said(turn=turn, delivery=DeliveryId(row.id), in_thread=in_thread)


def _find(connection: Connection, user_id: ChannelUserId, key: UUID) -> Said | None:
    row = connection.execute(_SAID, {"user_id": user_id, "key": key}).one_or_none()
    if row is None:
        return None
    return Said(
        turn=TurnId(row.turn_id),
        delivery=DeliveryId(row.id),
        in_thread=row.in_thread,
        again=True,
    )
