"""Everything about one message, read at one moment. Reads only."""

from worker.domain.ids import (
    CallId,
    ChannelUserId,
    ConversationId,
    DeadLetterId,
    DeliveryId,
    MessageRowId,
    TurnId,
)
from worker.domain.reports.message_history import (
    CallSummary,
    DeadLetterSummary,
    DeliverySummary,
    LoggedEvent,
    MessageHistory,
    MessageSummary,
    ReplySummary,
    ToolSummary,
    TurnSummary,
    UserSummary,
)
from worker.domain.states import (
    CallState,
    DeadLetterKind,
    DeliveryState,
    MessageState,
    ReplySource,
    Resolution,
    ToolCallState,
    TurnKind,
    TurnState,
)
from worker.domain.turns.calls import Fault
from worker.store.database import Database
from worker.store.limits.gates import closed_gates
from worker.store.sql import Connection, Row, sql

# One moment for all of it: else a call would be in flight whose reply is already there.
_ONE_MOMENT = sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
_MESSAGE = sql("""
SELECT m.id, m.message_id, u.channel, m.agent, m.state, m.outcome, m.accepted_at, m.finished_at,
    m.expires_at, m.late, m.alone, m.conflicts, m.turn_id, m.envelope,
    split_part(m.traceparent, '-', 2) AS trace_id,
    (SELECT count(*) FROM messages b WHERE b.channel_user_id = m.channel_user_id
        AND b.state = 'pending' AND (b.order_at, b.seq) < (m.order_at, m.seq)) AS before,
    (SELECT f.agent FROM messages f WHERE f.channel_user_id = m.channel_user_id
        AND f.state = 'pending' AND (f.expires_at IS NULL OR f.expires_at > service_now())
        ORDER BY f.order_at, f.seq LIMIT 1) AS next_agent,
    (SELECT requested_at FROM erasures e
        WHERE e.channel_user_id = u.id AND e.finished_at IS NULL) AS erasing_since,
    u.id AS user_id, u.due_at, u.waiting_due_at, u.paused_at, u.diverged_at,
    CASE WHEN u.lease_until >= service_now() AND w.id IS NOT NULL THEN u.lease_until END
        AS held_until,
    coalesce(m.turn_id, CASE WHEN m.state = 'pending' THEN u.open_turn_id END) AS shown_turn_id,
    (SELECT count(*) FROM workers WHERE alive_until >= service_now()) AS workers,
    (SELECT free_at FROM rates WHERE name = 'calls') AS calls_until,
    service_now() AS now
FROM messages m JOIN channel_users u ON u.id = m.channel_user_id
LEFT JOIN workers w ON w.id = u.lease_owner AND w.alive_until >= service_now()
WHERE m.id = :id
""")
_TURN = sql("""
SELECT t.id, t.kind, t.state, t.agent, t.agent_version, t.landed, t.failure, t.opened_at,
    t.finished_at, t.conversation_id, c.telnyx_conversation_id,
    (SELECT count(*) FROM messages m WHERE m.turn_id = t.id) AS messages
FROM turns t LEFT JOIN conversations c ON c.id = t.conversation_id WHERE t.id = :turn_id
""")
_CALLS = sql("""
SELECT id, round, attempt, state, intent_at, finished_at, status, code, reason, request_id,
    response_id, input_tokens, output_tokens, instructions_hash IS NOT NULL AS instructions_sent
FROM calls WHERE turn_id = :turn_id ORDER BY id
""")
_TOOLS = sql("""
SELECT round, call_id, name, state, started_at, finished_at
FROM tool_calls WHERE turn_id = :turn_id ORDER BY id
""")
# Of its turn; and what was done to its person without one while it had no outcome.
_EVENTS = sql("""
SELECT at, event, turn_id, facts FROM attempt_log
WHERE channel_user_id = :user_id AND (turn_id = :turn_id OR (turn_id IS NULL
    AND at BETWEEN :accepted_at AND coalesce(CAST(:finished_at AS timestamptz), service_now())))
ORDER BY id LIMIT 100
""")
_REPLY = sql("""
SELECT r.source, r.text, r.created_at AS replied_at, d.id, d.state, d.channel AS way_out,
    d.attempts, d.first_attempt_at, d.due_at, d.lease_until, d.provider_id, d.provider_status,
    d.created_at, d.finished_at,
    (SELECT count(*) FROM deliveries before WHERE before.channel_user_id = d.channel_user_id
        AND before.state IN ('pending', 'sending') AND before.id < d.id) AS ahead
FROM replies r LEFT JOIN deliveries d ON d.reply_id = r.id WHERE r.turn_id = :turn_id
""")
_LETTERS = sql("""
SELECT id, kind, reason, detail, created_at, resolution, resolved_at FROM dead_letters
WHERE message_row_id = :id OR delivery_id = :delivery_id ORDER BY id
""")


class MessageHistoryStore:
    """Messages, as people on call look at them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, message: MessageRowId) -> MessageHistory | None:
        """Read the whole life of one message; None = there is none of this number."""
        with self._database.transaction() as connection:
            connection.execute(_ONE_MOMENT)
            row = connection.execute(_MESSAGE, {"id": message}).one_or_none()
            return None if row is None else _life(connection, row)


def _life(connection: Connection, row: Row) -> MessageHistory:
    message = _message(row)
    of_turn = {"turn_id": row.shown_turn_id}
    turn = connection.execute(_TURN, of_turn).one_or_none()
    replied = connection.execute(_REPLY, {"turn_id": row.turn_id}).one_or_none()
    delivery = None if replied is None or replied.id is None else _delivery(replied)
    about = {
        "user_id": row.user_id,
        "turn_id": row.shown_turn_id,
        "accepted_at": message.accepted_at,
        "finished_at": message.finished_at,
    }
    letters = {"id": message.id, "delivery_id": delivery.id if delivery else None}
    return MessageHistory(
        now=row.now,
        workers=row.workers,
        message=message,
        user=_user(row),
        turn=None if turn is None else _turn(turn),
        calls=tuple(map(_call, connection.execute(_CALLS, of_turn))),
        tools=tuple(map(_tool, connection.execute(_TOOLS, of_turn))),
        events=tuple(map(_event, connection.execute(_EVENTS, about))),
        reply=None if replied is None else _reply(replied),
        delivery=delivery,
        letters=tuple(map(_letter, connection.execute(_LETTERS, letters))),
        gates=closed_gates(connection),
        calls_until=row.calls_until,
    )


def _message(row: Row) -> MessageSummary:
    return MessageSummary(
        id=MessageRowId(row.id),
        message_id=row.message_id,
        channel=row.channel,
        agent=row.agent,
        state=MessageState(row.state),
        outcome=row.outcome,
        accepted_at=row.accepted_at,
        finished_at=row.finished_at,
        expires_at=row.expires_at,
        late=row.late,
        alone=row.alone,
        conflicts=row.conflicts,
        turn_id=None if row.turn_id is None else TurnId(row.turn_id),
        envelope=row.envelope,
        before=row.before,
        trace_id=row.trace_id,
    )


def _user(row: Row) -> UserSummary:
    return UserSummary(
        id=ChannelUserId(row.user_id),
        due_at=row.due_at,
        waiting_due_at=row.waiting_due_at,
        next_agent=row.next_agent,
        held_until=row.held_until,
        paused_at=row.paused_at,
        diverged_at=row.diverged_at,
        erasing_since=row.erasing_since,
    )


def _turn(row: Row) -> TurnSummary:
    conversation = row.conversation_id
    return TurnSummary(
        id=TurnId(row.id),
        kind=TurnKind(row.kind),
        state=TurnState(row.state),
        agent=row.agent,
        agent_version=row.agent_version,
        messages=row.messages,
        landed=row.landed,
        failure=row.failure,
        opened_at=row.opened_at,
        finished_at=row.finished_at,
        conversation_id=None if conversation is None else ConversationId(conversation),
        telnyx_conversation_id=row.telnyx_conversation_id,
    )


def _call(row: Row) -> CallSummary:
    state = CallState(row.state)
    return CallSummary(
        id=CallId(row.id),
        round=row.round,
        attempt=row.attempt,
        state=state,
        intent_at=row.intent_at,
        finished_at=row.finished_at,
        status=row.status,
        code=row.code,
        reason=row.reason,
        fault=Fault(row.reason) if state is CallState.REFUSED and row.reason else None,
        request_id=row.request_id,
        response_id=row.response_id,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        instructions_sent=row.instructions_sent,
    )


def _tool(row: Row) -> ToolSummary:
    return ToolSummary(
        round=row.round,
        call_id=row.call_id,
        name=row.name,
        state=ToolCallState(row.state),
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def _event(row: Row) -> LoggedEvent:
    turn = None if row.turn_id is None else TurnId(row.turn_id)
    return LoggedEvent(at=row.at, event=row.event, turn_id=turn, facts=row.facts)


def _reply(row: Row) -> ReplySummary:
    return ReplySummary(source=ReplySource(row.source), text=row.text, created_at=row.replied_at)


def _delivery(row: Row) -> DeliverySummary:
    return DeliverySummary(
        id=DeliveryId(row.id),
        state=DeliveryState(row.state),
        way_out=row.way_out,
        attempts=row.attempts,
        first_attempt_at=row.first_attempt_at,
        due_at=row.due_at,
        lease_until=row.lease_until,
        provider_id=row.provider_id,
        provider_status=row.provider_status,
        created_at=row.created_at,
        finished_at=row.finished_at,
        ahead=row.ahead,
    )


def _letter(row: Row) -> DeadLetterSummary:
    return DeadLetterSummary(
        id=DeadLetterId(row.id),
        kind=DeadLetterKind(row.kind),
        reason=row.reason,
        detail=row.detail,
        created_at=row.created_at,
        resolution=None if row.resolution is None else Resolution(row.resolution),
        resolved_at=row.resolved_at,
    )
