"""Messages that somebody asks for, and everything about one of them. Reads only."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import case, func, or_, select, tuple_
from sqlalchemy.orm import aliased

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
from worker.domain.states import CallState, DeadLetterKind, DeliveryState
from worker.store.limits.gates import CLOSED_GATES
from worker.store.rows import value_of
from worker.store.schema.operations import DeadLetter
from worker.store.schema.turns import Call, Conversation, Delivery, Reply, ToolCall, Turn
from worker.store.schema.users import ChannelUser, InboxEntry, Message
from worker.store.selects import Reader, fetch, select_as
from worker.store.sql import Connection, Row, sql

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


_FOUND: Final = (
    select_as(Found, Message, ChannelUser, user_id=Message.channel_user_id)
    .join(ChannelUser, ChannelUser.id == Message.channel_user_id)
    .order_by(Message.id)
    .limit(MAX_FOUND)
)
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
    u.id AS user_id, u.surplus, u.due_at, u.waiting_due_at, u.paused_at, u.diverged_at,
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
_REPLIES: Final = select_as(ReplySummary, Reply)
_BEFORE: Final = aliased(Delivery)
_DELIVERIES: Final = select_as(
    DeliverySummary,
    Delivery,
    way_out=Delivery.channel,
    ahead=select(func.count())
    .where(_BEFORE.channel_user_id == Delivery.channel_user_id, _BEFORE.id < Delivery.id)
    .where(_BEFORE.state.in_((DeliveryState.PENDING, DeliveryState.SENDING)))
    .scalar_subquery(),
).join(Reply, Reply.id == Delivery.reply_id)
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


class MessageReports(Reader):
    """Finds messages by their names, and reads their histories, for a person on call."""

    def read(self, message: MessageRowId) -> MessageHistory | None:
        """Read the history of one message; None if no message has this number."""
        with self._database.transaction() as connection:
            connection.execute(_ONE_MOMENT)
            row = connection.execute(_MESSAGE, {"id": message}).one_or_none()
            return None if row is None else _history(connection, row)

    def by_row(self, row_id: int) -> tuple[Found, ...]:
        """Find a message by our number."""
        return self._fetch(Found, _FOUND.where(Message.id == row_id))

    def by_address(self, channel: str, pairs: Sequence[tuple[str, str]]) -> tuple[Found, ...]:
        """Find messages by address and the channel's own id; any of the `pairs`."""
        either = tuple_(ChannelUser.address, Message.message_id).in_(pairs)
        asked = _FOUND.where(ChannelUser.channel == channel, either)
        return self._fetch(Found, asked)

    def by_message_id(self, message_id: str) -> tuple[Found, ...]:
        """Find messages by the channel's own id alone. Slow if there are many messages."""
        # No index begins with message_id. MATERIALIZED makes Postgres look for the id in the unique
        # index alone, which is a fraction of the table's size.
        named = (
            select(Message.channel_user_id, Message.message_id)
            .where(Message.message_id == message_id)
            .limit(MAX_FOUND)
            .cte("named")
            .prefix_with("MATERIALIZED")
        )
        same = (named.c.channel_user_id, named.c.message_id)
        asked = _FOUND.where(tuple_(Message.channel_user_id, Message.message_id) == tuple_(*same))
        return self._fetch(Found, asked)

    def by_task(self, task_id: UUID) -> tuple[Found, ...]:
        """Find the message that a Celery task brought. Reads the whole table."""
        return self._fetch(Found, _FOUND.where(Message.task_id == task_id))

    def in_inbox(self, names: Collection[str], task_id: UUID) -> tuple[InInbox, ...]:
        """Find rows of the inbox by the channel's id of the message, or by the Celery task."""
        message_id = InboxEntry.envelope["message_id"].astext
        asked = select_as(InInbox, InboxEntry, now=func.service_now()).where(
            or_(message_id.in_(names), InboxEntry.task_id == task_id)
        )
        asked = asked.order_by(InboxEntry.id).limit(MAX_FOUND)
        return self._fetch(InInbox, asked)

    def refused_task(self, task_id: UUID) -> tuple[RefusedEnvelope, ...]:
        """Return the dead letters of a Celery task."""
        asked = select_as(RefusedEnvelope, DeadLetter).where(DeadLetter.task_id == task_id)
        return self._fetch(RefusedEnvelope, asked.order_by(DeadLetter.id.desc()).limit(MAX_FOUND))

    def refused(self) -> tuple[RefusedEnvelope, ...]:
        """Return the newest envelopes that were refused, the newest first."""
        # The caller compares the ids: in raw bytes an id may be encoded in several ways.
        asked = select_as(RefusedEnvelope, DeadLetter).where(
            DeadLetter.kind == DeadLetterKind.ENVELOPE,
            func.octet_length(DeadLetter.raw) <= _MAX_BYTES,
        )
        asked = asked.order_by(DeadLetter.id.desc()).limit(MAX_READ)
        return self._fetch(RefusedEnvelope, asked)


def _history(connection: Connection, row: Row) -> MessageHistory:
    turn_id = row.shown_turn_id
    turns = fetch(connection, TurnSummary, _TURNS.where(Turn.id == turn_id))
    replies = fetch(connection, ReplySummary, _REPLIES.where(Reply.turn_id == row.turn_id))
    sent = fetch(connection, DeliverySummary, _DELIVERIES.where(Reply.turn_id == row.turn_id))
    delivery = next(iter(sent), None)
    about = {name: getattr(row, name) for name in ("user_id", "accepted_at", "finished_at")}
    about["turn_id"] = turn_id
    # Not `== None` for a missing delivery: that is IS NULL, which fits every other dead letter.
    of_delivery = DeadLetter.delivery_id.in_([delivery.id] if delivery else [])
    letters = _LETTERS.where(or_(DeadLetter.message_row_id == row.id, of_delivery))
    return value_of(
        MessageHistory,
        row,
        message=value_of(MessageSummary, row),
        user=value_of(UserSummary, row, id=row.user_id),
        turn=turns[0] if turns else None,
        calls=fetch(connection, CallSummary, _CALLS.where(Call.turn_id == turn_id)),
        tools=fetch(connection, ToolSummary, _TOOLS.where(ToolCall.turn_id == turn_id)),
        events=tuple(value_of(LoggedEvent, one) for one in connection.execute(_EVENTS, about)),
        reply=next(iter(replies), None),
        delivery=delivery,
        dead_letters=fetch(connection, DeadLetterSummary, letters),
        gates=tuple(value_of(ClosedGate, one) for one in connection.execute(CLOSED_GATES)),
    )
