"""Messages that somebody asks for, and everything about one of them. Reads only."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from worker.domain.ids import ChannelUserId, MessageRowId
from worker.domain.reports.message_history import (
    CallSummary,
    ClosedGate,
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
from worker.store.database import Store
from worker.store.delivery.gates import GATES_OF_DELIVERY
from worker.store.limits.gates import CLOSED_GATES
from worker.store.rows import PENDING, Value, value_of
from worker.store.sql import Connection, Row, Statement, sql
from worker.store.turns.lease import DUE_AT

MAX_FOUND = 10
MAX_READ = 500
"""How many of the newest refused envelopes are searched."""
_MAX_BYTES: Final = 262_144
"""An envelope has some kilobytes; a larger dead letter is a flood or has files in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An accepted message that fits."""

    id: MessageRowId
    user_id: ChannelUserId
    channel: str
    accepted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InInbox:
    """A row of the inbox, which no worker has accepted yet."""

    id: int
    created_at: datetime
    not_before: datetime | None
    now: datetime
    """The database's time, which its age is computed with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEnvelope(DeadLetterSummary):
    """A dead letter of an invalid envelope."""

    raw: bytes
    """As it came, with the texts of the sender. Never log it."""


def _found(where: str) -> Statement:
    return sql(f"""
SELECT m.id, m.channel_user_id AS user_id, u.channel, m.accepted_at
FROM messages m JOIN channel_users u ON u.id = m.channel_user_id
WHERE {where} ORDER BY m.id LIMIT {MAX_FOUND}
""")


_BY_ROW: Final = _found("m.id = :id")
_BY_ADDRESS: Final = _found("""u.channel = :channel AND (u.address, m.message_id) IN (
    SELECT * FROM unnest(CAST(:addresses AS text[]), CAST(:message_ids AS text[])))""")
# No index begins with message_id. MATERIALIZED makes Postgres look for the id in the unique index
# alone, which is a fraction of the table's size.
_BY_MESSAGE_ID: Final = _found(f"""(m.channel_user_id, m.message_id) IN (
    WITH named AS MATERIALIZED (SELECT channel_user_id, message_id FROM messages
        WHERE message_id = :message_id LIMIT {MAX_FOUND}) SELECT * FROM named)""")
_BY_TASK: Final = _found("m.task_id = :task_id")
_IN_INBOX: Final = sql(f"""
SELECT id, created_at, not_before, service_now() AS now FROM inbox
WHERE envelope ->> 'message_id' = ANY(CAST(:names AS text[])) OR task_id = :task_id
ORDER BY id LIMIT {MAX_FOUND}
""")
_LETTER: Final = "id, kind, reason, detail, created_at, resolution, resolved_at"
_REFUSED_TASK: Final = sql(f"""
SELECT {_LETTER}, raw FROM dead_letters WHERE task_id = :task_id
ORDER BY id DESC LIMIT {MAX_FOUND}
""")
_REFUSED: Final = sql(f"""
SELECT {_LETTER}, raw FROM dead_letters
WHERE kind = 'envelope' AND octet_length(raw) <= {_MAX_BYTES} ORDER BY id DESC LIMIT {MAX_READ}
""")
# One snapshot for all of it: otherwise a call could be in flight and its reply already there.
_ONE_MOMENT = sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
_MESSAGE = sql(f"""
SELECT m.id, m.message_id, u.channel, m.agent, m.state, m.outcome, m.accepted_at, m.finished_at,
    m.expires_at, m.late, m.alone, m.conflicts, m.turn_id, m.envelope,
    split_part(m.traceparent, '-', 2) AS trace_id,
    (SELECT count(*) FROM messages b WHERE b.channel_user_id = m.channel_user_id
        AND {PENDING} AND (b.order_at, b.seq) < (m.order_at, m.seq)) AS before,
    (SELECT f.agent FROM messages f WHERE f.channel_user_id = m.channel_user_id
        AND {PENDING} AND (f.expires_at IS NULL OR f.expires_at > service_now())
        ORDER BY f.order_at, f.seq LIMIT 1) AS next_agent,
    (SELECT requested_at FROM erasures e
        WHERE e.channel_user_id = u.id AND e.finished_at IS NULL) AS erasing_since,
    u.id AS user_id, u.surplus, {DUE_AT} AS due_at, u.waiting_due_at, u.paused_at,
    u.pause_reason, u.diverged_at,
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
WHERE channel_user_id = :user_id AND (turn_id = :shown_turn_id OR (turn_id IS NULL
    AND at BETWEEN :accepted_at AND coalesce(CAST(:finished_at AS timestamptz), service_now())))
ORDER BY id LIMIT 100
""")
_TURN = sql("""
SELECT t.id, t.agent, t.agent_version, t.opened_at, t.finished_at, t.kind, t.state, t.landed,
    t.failure, t.conversation_id, c.telnyx_conversation_id,
    (SELECT count(*) FROM messages WHERE turn_id = t.id) AS messages
FROM turns t LEFT JOIN conversations c ON c.id = t.conversation_id WHERE t.id = :shown_turn_id
""")
_CALLS = sql("""
SELECT id, round, attempt, state, intent_at, finished_at, conversation_id, status, code, reason,
    CASE WHEN state = 'refused' THEN reason END AS fault, request_id, response_id, input_tokens,
    output_tokens, instructions_hash IS NOT NULL AS instructions_sent
FROM calls WHERE turn_id = :shown_turn_id ORDER BY id
""")
_TOOLS = sql("""
SELECT round, call_id, name, state, started_at, finished_at
FROM tool_calls WHERE turn_id = :shown_turn_id ORDER BY id
""")
_REPLY = sql("SELECT source, text, created_at FROM replies WHERE turn_id = :turn_id")
# Of several pieces the one that has not gone out, as in the view `message_outcomes`.
_DELIVERY = sql(f"""
SELECT d.id, d.state, d.channel AS way_out, d.attempts, d.first_attempt_at, d.due_at, d.lease_until,
    d.provider_id, d.provider_status, d.created_at, d.finished_at, d.receipt, d.receipt_error,
    d.receipt_at, d.held_for, d.reviewed_at, d.counts_from, d.reply_id,
    (SELECT count(*) FROM deliveries b WHERE b.channel_user_id = d.channel_user_id AND b.id < d.id
        AND b.state IN ('pending', 'sending')) AS ahead,
    (SELECT g.name FROM gates g WHERE g.closed_until > service_now() AND {GATES_OF_DELIVERY}
        ORDER BY g.closed_until DESC LIMIT 1) AS gate
FROM replies r JOIN deliveries f ON f.reply_id = r.id
    JOIN deliveries d ON d.id = f.id OR d.part_of = f.id
WHERE r.turn_id = :turn_id AND NOT EXISTS (
    SELECT FROM deliveries a WHERE a.part_of = f.id AND a.repeats = d.id)
ORDER BY d.state = 'sent', d.state = 'cancelled', d.id DESC LIMIT 1
""")
_LETTERS = sql(f"""
SELECT {_LETTER} FROM dead_letters WHERE message_row_id = :id OR delivery_id = :delivery_id
ORDER BY id
""")


class MessageReports(Store):
    """Finds messages by their names, and reads their histories, for a person on call."""

    def read(self, message: MessageRowId) -> MessageHistory | None:
        """Read the history of one message; None = no message has this number."""
        with self._database.transaction() as connection:
            connection.execute(_ONE_MOMENT)
            row = connection.execute(_MESSAGE, {"id": message}).one_or_none()
            return None if row is None else _history(connection, row)

    def by_row(self, row_id: int) -> tuple[Found, ...]:
        """Find a message by our number."""
        return self._found(Found, _BY_ROW, {"id": row_id})

    def by_address(self, channel: str, pairs: Sequence[tuple[str, str]]) -> tuple[Found, ...]:
        """Find messages by address and the channel's own id; any of the `pairs`."""
        addresses, message_ids = map(list, zip(*pairs, strict=True))
        values = {"channel": channel, "addresses": addresses, "message_ids": message_ids}
        return self._found(Found, _BY_ADDRESS, values)

    def by_message_id(self, message_id: str) -> tuple[Found, ...]:
        """Find messages by the channel's own id alone. Slow if there are many messages."""
        return self._found(Found, _BY_MESSAGE_ID, {"message_id": message_id})

    def by_task(self, task_id: UUID) -> tuple[Found, ...]:
        """Find the message that a Celery task brought. Reads the whole table."""
        return self._found(Found, _BY_TASK, {"task_id": task_id})

    def in_inbox(self, names: Collection[str], task_id: UUID) -> tuple[InInbox, ...]:
        """Find rows of the inbox by the channel's id of the message, or by the Celery task."""
        return self._found(InInbox, _IN_INBOX, {"names": list(names), "task_id": task_id})

    def refused_task(self, task_id: UUID) -> tuple[RefusedEnvelope, ...]:
        """Return the dead letters of a Celery task."""
        return self._found(RefusedEnvelope, _REFUSED_TASK, {"task_id": task_id})

    def refused(self) -> tuple[RefusedEnvelope, ...]:
        """Return the newest envelopes that were refused, the newest first."""
        # The caller compares the ids: in raw bytes an id may be encoded in several ways.
        return self._found(RefusedEnvelope, _REFUSED)


def _history(connection: Connection, row: Row) -> MessageHistory:
    values: dict[str, object] = row._asdict()

    def read(value: type[Value], asked: Statement) -> tuple[Value, ...]:
        return tuple(value_of(value, one) for one in connection.execute(asked, values))

    delivery = next(iter(read(DeliverySummary, _DELIVERY)), None)
    values["delivery_id"] = delivery and delivery.id
    return value_of(
        MessageHistory,
        row,
        message=value_of(MessageSummary, row),
        user=value_of(UserSummary, row, id=row.user_id),
        turn=next(iter(read(TurnSummary, _TURN)), None),
        calls=read(CallSummary, _CALLS),
        tools=read(ToolSummary, _TOOLS),
        events=read(LoggedEvent, _EVENTS),
        reply=next(iter(read(ReplySummary, _REPLY)), None),
        delivery=delivery,
        dead_letters=read(DeadLetterSummary, _LETTERS),
        gates=read(ClosedGate, CLOSED_GATES),
    )
