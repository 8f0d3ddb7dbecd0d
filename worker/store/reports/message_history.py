"""Everything about one message, read in one snapshot. Reads only."""

from typing import Final

from sqlalchemy import case, func, or_, select

from worker.domain.ids import MessageRowId
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
from worker.domain.states import CallState
from worker.store.database import Database
from worker.store.limits.gates import closed_gates
from worker.store.rows import value_of
from worker.store.schema.operations import DeadLetter
from worker.store.schema.turns import Call, Conversation, ToolCall, Turn
from worker.store.schema.users import Message
from worker.store.selects import fetch, select_as
from worker.store.sql import Connection, Row, sql

# One snapshot for all of it: otherwise a call could be in flight and its reply already there.
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
# Events of its turn; and those of its channel user without a turn, while it had no outcome.
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
_TURNS: Final = select_as(
    TurnSummary,
    Turn,
    Conversation,
    messages=select(func.count()).where(Message.turn_id == Turn.id).scalar_subquery(),
).outerjoin(Conversation, Conversation.id == Turn.conversation_id)
_CALLS: Final = select_as(
    CallSummary,
    Call,
    fault=case((Call.state == CallState.REFUSED, Call.reason)),
    instructions_sent=Call.instructions_hash.is_not(None),
).order_by(Call.id)
_TOOLS: Final = select_as(ToolSummary, ToolCall).order_by(ToolCall.id)
_LETTERS: Final = select_as(DeadLetterSummary, DeadLetter).order_by(DeadLetter.id)


class MessageHistoryStore:
    """Histories of messages, for a person on call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, message: MessageRowId) -> MessageHistory | None:
        """Read the history of one message; None if no message has this number."""
        with self._database.transaction() as connection:
            connection.execute(_ONE_MOMENT)
            row = connection.execute(_MESSAGE, {"id": message}).one_or_none()
            return None if row is None else _history(connection, row)


def _history(connection: Connection, row: Row) -> MessageHistory:
    turn_id = row.shown_turn_id
    turns = fetch(connection, TurnSummary, _TURNS.where(Turn.id == turn_id))
    replied = connection.execute(_REPLY, {"turn_id": row.turn_id}).one_or_none()
    delivery = None
    if replied is not None and replied.id is not None:
        delivery = value_of(DeliverySummary, replied)
    about = {
        "user_id": row.user_id,
        "turn_id": turn_id,
        "accepted_at": row.accepted_at,
        "finished_at": row.finished_at,
    }
    # Not `== None` for a missing delivery: that is IS NULL, which fits every other dead letter.
    of_delivery = DeadLetter.delivery_id.in_([delivery.id] if delivery else [])
    letters = _LETTERS.where(or_(DeadLetter.message_row_id == row.id, of_delivery))
    return MessageHistory(
        now=row.now,
        workers=row.workers,
        message=value_of(MessageSummary, row),
        user=value_of(UserSummary, row, id=row.user_id),
        turn=turns[0] if turns else None,
        calls=fetch(connection, CallSummary, _CALLS.where(Call.turn_id == turn_id)),
        tools=fetch(connection, ToolSummary, _TOOLS.where(ToolCall.turn_id == turn_id)),
        events=tuple(value_of(LoggedEvent, one) for one in connection.execute(_EVENTS, about)),
        reply=None
        if replied is None
        else value_of(ReplySummary, replied, created_at=replied.replied_at),
        delivery=delivery,
        letters=fetch(connection, DeadLetterSummary, letters),
        gates=closed_gates(connection),
        calls_until=row.calls_until,
    )
