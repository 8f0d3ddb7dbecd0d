"""Messages that end when their turn would open, and the one text that may be said then."""

from collections.abc import Sequence

from worker.domain.ids import MessageRowId
from worker.domain.routing import Routing
from worker.domain.states import MessageState
from worker.domain.turns.records import Snapshot
from worker.store.sql import Connection, sql

_END = sql("""
UPDATE messages SET state = :state, outcome = :outcome, finished_at = service_now()
WHERE id = ANY(:message_ids) AND state = 'pending'
""")
# One text for all of them; a turn that Telnyx never hears of carries it.
_END_WITH_TEXT = sql("""
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
), reply AS (
    INSERT INTO replies (turn_id, text, source, created_at)
    SELECT id, :text, 'fallback', service_now() FROM turn RETURNING id
)
INSERT INTO deliveries
    (reply_id, channel_user_id, channel, state, due_at, finished_at, created_at)
SELECT id, :user_id, :channel, CAST(:delivery_state AS text),
    CASE WHEN :delivery_state = 'pending' THEN service_now() END,
    CASE WHEN :delivery_state <> 'pending' THEN service_now() END, service_now()
FROM reply
""")


def expire(
    connection: Connection, snapshot: Snapshot, expired: Sequence[MessageRowId], routing: Routing
) -> None:
    """End these messages, too old; the caller holds the claim."""
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
    """End these messages, and say `text` once for all; who has a person to talk to hears nothing.

    The caller holds the claim.
    """
    values: dict[str, object] = {"message_ids": list(ended), "state": state, "outcome": outcome}
    if text is None or snapshot.paused:
        connection.execute(_END, values)
        return
    # It goes where the first one names.
    first = next(message for message in snapshot.pending if message.id in ended)
    policy = routing.delivery_policy(snapshot.who.channel, first.reply_to)
    values |= {
        "user_id": snapshot.lease.user_id,
        "text": text,
        "channel": policy.name,
        "delivery_state": policy.first_delivery_state,
    }
    connection.execute(_END_WITH_TEXT, values)
