"""Ends messages when their turn would open: too old, or over the budget. One text may go out."""

from collections.abc import Sequence

from worker.domain.ids import MessageRowId
from worker.domain.routing import Routing
from worker.domain.states import MessageState, ReplySource
from worker.domain.turns.records import Snapshot
from worker.store.rows import reply_with_delivery
from worker.store.sql import Connection, sql

_END = sql("""
UPDATE messages SET state = :state, outcome = :outcome, finished_at = service_now()
WHERE id = ANY(:message_ids) AND state = 'pending'
""")
# One text answers all of them, in a turn of its own that Telnyx never sees.
_END_WITH_TEXT = sql(
    """
WITH turn AS (
    INSERT INTO turns (channel_user_id, agent, agent_version, input_text, state, landed, failure,
        opened_at, finished_at)
    SELECT :user_id, min(agent), '', '', 'failed', false, :outcome, service_now(), service_now()
    FROM messages WHERE id = ANY(:message_ids) AND state = 'pending'
    RETURNING id
), ended AS (
    UPDATE messages SET state = :state, outcome = :outcome, turn_id = turn.id,
        finished_at = service_now()
    FROM turn WHERE messages.id = ANY(:message_ids) AND messages.state = 'pending'
)"""
    + reply_with_delivery(first_state="CAST(:delivery_state AS text)")
    + " SELECT id FROM delivery"
)


def expire(
    connection: Connection, snapshot: Snapshot, expired: Sequence[MessageRowId], routing: Routing
) -> None:
    """End messages that are too old; the caller has claimed the user."""
    text = routing.channel(snapshot.who.channel).expired_text
    state = MessageState.EXPIRED
    end_unanswered(
        connection, snapshot, expired, routing, state=state, outcome="expired", text=text
    )


def end_unanswered(
    connection: Connection,
    snapshot: Snapshot,
    ended: Sequence[MessageRowId],
    routing: Routing,
    *,
    state: MessageState,
    outcome: str,
    text: str | None,
) -> None:
    """End these messages, and send `text` once for all of them, unless the user is paused.

    The caller has claimed the user.
    """
    values: dict[str, object] = {"message_ids": list(ended), "state": state, "outcome": outcome}
    if text is None or snapshot.paused:
        connection.execute(_END, values)
        return
    # The route of the oldest of them, as for a turn that answers several messages.
    first = next(message for message in snapshot.pending if message.id in ended)
    policy = routing.delivery_policy(snapshot.who.channel, first.reply_to)
    values |= {
        "user_id": snapshot.lease.user_id,
        "text": text,
        "source": ReplySource.FALLBACK,
        "channel": policy.name,
        "delivery_state": policy.first_delivery_state,
    }
    connection.execute(_END_WITH_TEXT, values)
