"""Reads the snapshot of one channel user: everything their next step depends on."""

from datetime import datetime
from typing import Any

from worker.domain.ids import ChannelUserId, ConversationId, TurnId
from worker.domain.messages import MAX_TURN_MESSAGES, PendingMessage
from worker.domain.turns.records import CallRecord, Lease, OpenConversation, OpenTurn, Snapshot
from worker.store.consents import has_opted_out, stopped
from worker.store.limits.gates import read_gates
from worker.store.limits.loops import may_loop
from worker.store.rows import PENDING, address_of, attachments_of, value_of
from worker.store.sql import Connection, Row, sql
from worker.store.turns import calls as stored_calls

_TURN = sql("""
SELECT id, agent, kind, input_text, parts, opened_at, conversation_id,
    (SELECT count(*) FROM messages m WHERE m.turn_id = t.id) AS messages,
    (SELECT m.envelope->>'reply_to' FROM messages m WHERE m.turn_id = t.id LIMIT 1) AS reply_to,
    ARRAY(SELECT m.traceparent FROM messages m
          WHERE m.turn_id = t.id AND m.traceparent IS NOT NULL
          ORDER BY m.order_at, m.seq) AS traceparents
FROM turns t WHERE id = :turn_id
""")
_CALLS = sql("""
SELECT id, round, attempt, state, intent_at, status, conversation_id,
    CASE WHEN state = 'refused' THEN reason END AS fault
FROM calls
WHERE turn_id = :turn_id ORDER BY id
""")
_OPEN_CONVERSATION = """
    c.id, c.agent, c.remote_key, c.telnyx_conversation_id AS telnyx_id, c.base_user_messages,
    c.instructions_hash, c.owes_outputs,
    (SELECT count(*) FROM turns t WHERE t.conversation_id = c.id) AS turns,
    (SELECT finished_at FROM turns t WHERE t.conversation_id = c.id ORDER BY id DESC LIMIT 1)
        AS last_turn_at,
    coalesce(coalesce(c.compared_at, c.opened_at)
        < (SELECT replaced_at FROM cluster WHERE one), false) AS behind
"""
_CONVERSATION = sql(f"""
SELECT {_OPEN_CONVERSATION} FROM conversations c
WHERE channel_user_id = :user_id AND agent = :agent AND closed_at IS NULL
""")
_MAY_LOOP = may_loop("(SELECT text FROM pending ORDER BY order_at, seq LIMIT 1)")
# One round trip for all that a new turn depends on. It cannot be part of the claim: an UPDATE that
# waited for its lock reads every other row as it was before the wait.
_WAITING = sql(f"""
WITH pending AS (
    SELECT id, agent, alone, expires_at, envelope->>'text' AS text,
        envelope->'attachments' AS attachments, envelope->>'reply_to' AS reply_to,
        accepted_at, traceparent, order_at, seq
    FROM messages WHERE channel_user_id = :user_id AND {PENDING}
    ORDER BY order_at, seq LIMIT :limit
)
SELECT (SELECT jsonb_agg(to_jsonb(p) - 'order_at' - 'seq' ORDER BY p.order_at, p.seq)
        FROM pending p) AS pending,
    (SELECT jsonb_object_agg(name, closed_until) FROM gates) AS gates,
    {stopped()} AS opted_out,
    {_OPEN_CONVERSATION},
    (SELECT {_MAY_LOOP} OR NOT EXISTS (SELECT FROM turns t WHERE t.channel_user_id = u.id)
     FROM channel_users u WHERE u.id = :user_id) AS may_loop
FROM (SELECT) AS one LEFT JOIN conversations c
    ON c.channel_user_id = :user_id AND c.closed_at IS NULL
    AND c.agent = (SELECT agent FROM pending ORDER BY order_at, seq LIMIT 1)
""")
_CLOSE = sql("""
UPDATE conversations SET closed_at = service_now(), close_reason = :reason
WHERE id = :id AND closed_at IS NULL
""")


def read_snapshot(
    connection: Connection, user_id: ChannelUserId, claimed: Row, address_hash: bytes
) -> Snapshot:
    """Read the snapshot of a user whose row the caller has just locked by claiming it."""
    turn, pending, suspect = None, None, False
    if claimed.open_turn_id is not None:
        turn = read_turn(connection, claimed.open_turn_id)
        values: dict[str, object] = {"user_id": user_id, "agent": turn.agent}
        row = connection.execute(_CONVERSATION, values).one_or_none()
        conversation = None if row is None else _open_conversation(connection, row)
        gates = read_gates(connection)
        opted_out = has_opted_out(connection, address_hash)
    else:
        # One more than a turn takes, to know whether messages remain.
        values = {"user_id": user_id, "limit": MAX_TURN_MESSAGES + 1, "address_hash": address_hash}
        row = connection.execute(_WAITING, values).one()
        pending, opted_out, suspect = row.pending, row.opted_out, row.may_loop
        conversation = None if row.id is None else _open_conversation(connection, row)
        gates = {name: datetime.fromisoformat(at) for name, at in (row.gates or {}).items()}
    return Snapshot(
        lease=Lease(user_id=user_id, token=claimed.lease_token),
        who=address_of(claimed),
        now=claimed.now,
        turn=turn,
        pending=tuple(map(_pending, pending or ())),
        conversation=conversation,
        paused=claimed.paused_at is not None,
        note=claimed.note,
        opted_out=opted_out,
        may_loop=suspect,
        gates=gates,
    )


def read_turn(connection: Connection, turn_id: TurnId) -> OpenTurn:
    """Read an open turn with its calls and tool calls, oldest first."""
    values = {"turn_id": turn_id}
    return value_of(
        OpenTurn,
        connection.execute(_TURN, values).one(),
        calls=tuple(value_of(CallRecord, call) for call in connection.execute(_CALLS, values)),
        tool_calls=stored_calls.of_turn(connection, turn_id),
    )


def _open_conversation(connection: Connection, row: Row) -> OpenConversation:
    owed = stored_calls.owed(connection, row.id) if row.owes_outputs else ()
    return value_of(OpenConversation, row, owed=owed)


def _pending(document: dict[str, Any]) -> PendingMessage:
    """Return the message of a row as JSON, which has its fields by name, and times as text."""
    for name in ("accepted_at", "expires_at"):
        document[name] = document[name] and datetime.fromisoformat(document[name])
    return PendingMessage(**document | {"attachments": attachments_of(document["attachments"])})


def close_conversation(
    connection: Connection, conversation: ConversationId, *, reason: str
) -> None:
    """Close a mapping; the next turn opens a new one. The caller has checked the lease."""
    connection.execute(_CLOSE, {"id": conversation, "reason": reason})
