"""A message of our staff to a channel user: turn, reply and delivery, committed together.

    with an open conversation   the turn stays open until a worker has added it to Telnyx's log
    without                     the turn has ended; there is no log

A turn of kind `human` with a reply is a message of our staff. Without a reply it holds messages
that the channel user wrote while a person had taken over.
"""

from dataclasses import dataclass
from uuid import UUID

from worker.domain.ids import ChannelUserId, ConversationId, DeliveryId, TurnId
from worker.domain.people.drafts import NOT_SENT, sent_instead
from worker.domain.routing import Agent, ChannelPolicy
from worker.domain.states import ReplySource
from worker.domain.turns.records import Lease
from worker.store.database import Store
from worker.store.operators.interventions import note
from worker.store.rows import reply_with_delivery, value_of
from worker.store.sql import Row, sql
from worker.store.turns.lease import check_lease
from worker.store.turns.open_turn import SUPERSEDE_DRAFTS

# `landed` false: it is no user item, and `reconcile` must not count it as one.
_SAY = sql(
    """
WITH turn AS (
    INSERT INTO turns (channel_user_id, conversation_id, agent, agent_version, kind, input_text,
        state, landed, opened_at, finished_at)
    SELECT id, :conversation_id, :agent, :agent_version, 'human', :text,
        CASE WHEN :stays_open THEN 'open' ELSE 'answered' END, false, service_now(),
        CASE WHEN NOT :stays_open THEN service_now() END
    FROM channel_users WHERE id = :user_id AND (open_turn_id IS NULL OR NOT :stays_open)
    RETURNING id
), marked AS (
    UPDATE channel_users SET open_turn_id = turn.id, due_at = service_now(), woken_at = NULL
    FROM turn WHERE channel_users.id = :user_id AND :stays_open
)"""
    + reply_with_delivery(first_state="CAST(:state AS text)", key="CAST(:key AS uuid)")
    + " SELECT delivery.id, turn.id AS turn_id FROM delivery, turn"
)
# It takes the place of a draft, whether somebody has rejected that or not.
_TELL = sql("""
UPDATE channel_users SET note = replace(note, :not_sent, :instead)
WHERE id = :user_id AND note IS NOT NULL
""")
_SAID = sql("""
SELECT t.id AS turn, d.id AS delivery, t.conversation_id IS NOT NULL AS in_thread
FROM turns t JOIN replies r ON r.turn_id = t.id JOIN deliveries d ON d.reply_id = r.id
WHERE t.channel_user_id = :user_id AND t.kind = 'human' AND d.idempotency_key = :key
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A committed message of our staff."""

    turn: TurnId
    delivery: DeliveryId
    in_thread: bool
    """Whether a worker adds it to Telnyx's log."""
    again: bool = False
    """It was committed by an earlier call, and nothing changed."""


class SayingStore(Store):
    """Messages of our staff."""

    def find(self, user_id: ChannelUserId, key: UUID) -> Said | None:
        """Return the message with this key."""
        return _said(self._row(_SAID, {"user_id": user_id, "key": key}))

    def say(
        self,
        lease: Lease,
        text: str,
        *,
        key: UUID,
        agent: Agent,
        policy: ChannelPolicy,
        conversation: ConversationId | None,
    ) -> Said:
        """Commit turn, reply and delivery, or nothing. Raises `StaleLeaseError`.

        `key`: idempotency key of the delivery; a second message with it is not sent. The text is
        added to the log of `conversation`; None = only delivered.
        """
        in_thread = conversation is not None
        values = {
            "user_id": lease.user_id,
            "conversation_id": conversation,
            "agent": agent.name,
            "agent_version": agent.version,
            "text": text,
            "source": ReplySource.HUMAN,
            "stays_open": in_thread,
            "channel": policy.name,
            "key": key,
            "state": policy.first_delivery_state,
            "not_sent": NOT_SENT,
            "instead": sent_instead(text),
        }
        with self._database.transaction() as connection:
            check_lease(connection, lease, lease_for=None)
            # Again, under the lock: two commands with one key may have passed the first look.
            if before := _said(connection.execute(_SAID, values).one_or_none()):
                return before
            connection.execute(SUPERSEDE_DRAFTS, values)
            connection.execute(_TELL, values)
            row = connection.execute(_SAY, values).one()
            turn = TurnId(row.turn_id)
            note(connection, "said", lease, turn, delivery=row.id)
        return Said(turn=turn, delivery=DeliveryId(row.id), in_thread=in_thread)


def _said(row: Row | None) -> Said | None:
    return None if row is None else value_of(Said, row, again=True)
