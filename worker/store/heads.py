"""Reading everything about one channel user that his next step depends on."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, text

from worker.domain.calls import Fault
from worker.domain.ids import (
    CallId,
    ChannelUserId,
    ConversationId,
    MessageRowId,
    TelnyxConversationId,
    TurnId,
)
from worker.domain.messages import (
    MAX_TURN_MESSAGES,
    Attachment,
    ChannelAddress,
    PendingMessage,
)
from worker.domain.states import CallState, TurnKind
from worker.domain.turns import CallRecord, Head, Lease, OpenConversation, OpenTurn
from worker.store import tool_calls
from worker.store.gates import read_gates

_PENDING = text("""
SELECT id, agent, alone, expires_at, envelope->>'text' AS text,
    envelope->'attachments' AS attachments
FROM messages WHERE channel_user_id = :user_id AND state = 'pending'
ORDER BY order_at, seq LIMIT :limit
""")
_TURN = text("""
SELECT id, agent, kind, input_text, parts, opened_at, conversation_id,
    (SELECT count(*) FROM messages m WHERE m.turn_id = t.id) AS messages
FROM turns t WHERE id = :turn_id
""")
_CALLS = text("""
SELECT id, round, attempt, state, intent_at, status, conversation_id,
    CASE WHEN state = 'refused' THEN reason END AS fault
FROM calls
WHERE turn_id = :turn_id ORDER BY id
""")
_CONVERSATION = text("""
SELECT id, agent, remote_key, telnyx_conversation_id, base_user_messages, instructions_hash,
    owes_outputs,
    (SELECT count(*) FROM turns t WHERE t.conversation_id = c.id) AS turns,
    (SELECT finished_at FROM turns t WHERE t.conversation_id = c.id ORDER BY id DESC LIMIT 1)
        AS last_turn_at
FROM conversations c
WHERE channel_user_id = :user_id AND agent = :agent AND closed_at IS NULL
""")

_CLOSE = text("""
UPDATE conversations SET closed_at = service_now(), close_reason = :reason
WHERE id = :id AND closed_at IS NULL
""")


def read_head(connection: Connection, user_id: ChannelUserId, claimed: Row[Any]) -> Head:
    """Read the head of a user whose row the caller has just locked by claiming it."""
    turn = None
    pending: tuple[PendingMessage, ...] = ()
    if claimed.open_turn_id is not None:
        turn = read_turn(connection, TurnId(claimed.open_turn_id))
    else:
        # One more than a turn takes, to know whether something stays behind.
        values = {"user_id": user_id, "limit": MAX_TURN_MESSAGES + 1}
        pending = tuple(_pending(row) for row in connection.execute(_PENDING, values))
    agent = turn.agent if turn else pending[0].agent if pending else None
    return Head(
        lease=Lease(user_id=user_id, token=claimed.lease_token),
        who=ChannelAddress(
            channel=claimed.channel,
            recipient=claimed.recipient,
            address=claimed.address,
            thread=claimed.thread,
        ),
        now=claimed.now,
        turn=turn,
        pending=pending,
        conversation=read_conversation(connection, user_id, agent) if agent else None,
        paused=claimed.paused_at is not None,
        gates=read_gates(connection) if agent else {},
    )


def read_turn(connection: Connection, turn_id: TurnId) -> OpenTurn:
    """Read an open turn with its calls and tool calls, oldest first."""
    row = connection.execute(_TURN, {"turn_id": turn_id}).one()
    return OpenTurn(
        id=turn_id,
        agent=row.agent,
        input_text=row.input_text,
        parts=tuple(row.parts),
        opened_at=row.opened_at,
        messages=row.messages,
        kind=TurnKind(row.kind),
        conversation_id=row.conversation_id,
        calls=tuple(_call(call) for call in connection.execute(_CALLS, {"turn_id": turn_id})),
        tool_calls=tool_calls.of_turn(connection, turn_id),
    )


def read_conversation(
    connection: Connection, user_id: ChannelUserId, agent: str
) -> OpenConversation | None:
    """Read the open conversation of a user and an agent."""
    values = {"user_id": user_id, "agent": agent}
    row = connection.execute(_CONVERSATION, values).one_or_none()
    if row is None:
        return None
    return replace(
        conversation_value(row),
        turns=row.turns,
        last_turn_at=row.last_turn_at,
        owed=tool_calls.owed(connection, row.id) if row.owes_outputs else (),
    )


def conversation_value(row: Row[Any]) -> OpenConversation:
    """Turn a row of `conversations` into its value."""
    remote = row.telnyx_conversation_id
    return OpenConversation(
        id=ConversationId(row.id),
        agent=row.agent,
        remote_key=row.remote_key,
        telnyx_id=None if remote is None else TelnyxConversationId(remote),
        base_user_messages=row.base_user_messages,
        instructions_hash=row.instructions_hash,
    )


def _pending(row: Row[Any]) -> PendingMessage:
    return PendingMessage(
        id=MessageRowId(row.id),
        agent=row.agent,
        text=row.text,
        alone=row.alone,
        expires_at=row.expires_at,
        attachments=tuple(Attachment(**one) for one in row.attachments or ()),
    )


def _call(row: Row[Any]) -> CallRecord:
    return CallRecord(
        id=CallId(row.id),
        round=row.round,
        attempt=row.attempt,
        state=CallState(row.state),
        intent_at=row.intent_at,
        status=row.status,
        conversation_id=row.conversation_id,
        fault=Fault(row.fault) if row.fault else None,
    )


def close_conversation(
    connection: Connection, conversation: ConversationId, *, reason: str
) -> None:
    """Close a mapping; the next turn opens a fresh one. The caller holds the fence."""
    connection.execute(_CLOSE, {"id": conversation, "reason": reason})
