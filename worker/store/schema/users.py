"""Tables of workers, channel users and incoming messages."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from worker.domain.states import MessageState
from worker.store.schema.base import (
    Base,
    BigIntKey,
    Count,
    CreatedAt,
    Flag,
    gateway_id,
    one_of,
    partial,
)


class Worker(Base):
    """One process; `alive_until` is renewed every few seconds, and its leases end with it."""

    __tablename__ = "workers"
    # Usually empty: the fast path asks for such workers with each message.
    __table_args__ = (partial("ix_workers_of_0_1_0", "id", when="NOT finds_intents"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[CreatedAt]
    alive_until: Mapped[datetime]
    stalled_since: Mapped[datetime | None]
    """Since when entries wait in the broker and this process takes none."""
    machine: Mapped[UUID | None]
    """The kernel's boot id: the same for all containers of one machine."""
    core: Mapped[int | None]
    """The core that the process is pinned to; NULL = it is not pinned."""
    finds_intents: Mapped[Flag]
    """Its sweeps find users of the fast path whose worker died; those of release 0.1.0 do not."""


class ChannelUser(Base):
    """One person on one channel, recipient and thread: the unit of order, and of locking.

    `due_at` is when the next step may start (NULL = nothing to do): claims and sweeps look for it.
    It stays as it is under a lease, so that a dead worker's user is found at once. The fast path
    leaves it NULL until its call has ended; until then the call's intent leads to the user.
    """

    __tablename__ = "channel_users"
    __table_args__ = (
        UniqueConstraint("channel", "recipient", "address", "thread"),
        # Partial, as most users have nothing to do: a sweep reads the due ones, not all users.
        partial("ix_channel_users_due_at", "due_at", when="due_at IS NOT NULL"),
        partial(
            "ix_channel_users_agent_surplus_due_at",
            "agent",
            "surplus",
            "due_at",
            when="due_at IS NOT NULL",
        ),
        # For counting a sender's due turns: the surplus ones, which may be many, are not in it.
        partial(
            "ix_channel_users_address_group_address",
            "address_group",
            "address",
            when="due_at IS NOT NULL AND diverged_at IS NULL AND NOT surplus",
        ),
        # For counting a sender's recent turns.
        Index("ix_channel_users_sender", "address_group", "address"),
        partial("ix_channel_users_paused_at", "paused_at", when="paused_at IS NOT NULL"),
        # Each message updates this row several times: free space on its page keeps the new versions
        # there.
        {"postgresql_with": {"fillfactor": 80}},
    )

    id: Mapped[BigIntKey]
    channel: Mapped[str]
    recipient: Mapped[str] = mapped_column(server_default="")
    address: Mapped[str]
    thread: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[CreatedAt]
    agent: Mapped[str] = mapped_column(server_default="")
    """Agent of the newest message, whose share of the slots the next turn uses. A hint."""
    address_group: Mapped[int | None]
    """Key of the address's group, a hash; NULL = the newest message is older than the column."""
    surplus: Mapped[Flag]
    """As the user became due, enough other turns of the address or its group were due."""
    next_seq: Mapped[int] = mapped_column(server_default=text("1"))
    due_at: Mapped[datetime | None]
    waiting_since: Mapped[datetime | None]
    """Acceptance of the oldest message that no turn has taken yet; bounds the debounce."""
    waiting_due_at: Mapped[datetime | None]
    """When a turn may take the pending messages: `due_at`, once the open turn has ended.

    On this row and not derived from `messages`, because an update that waited for the row's lock
    sees the row anew but other tables as they were before the wait.
    """
    taken_until: Mapped[datetime | None]
    """The latest `order_at` that a turn has taken; a message from before it is late."""
    woken_at: Mapped[datetime | None]
    """When a wake was last published for this user; keeps sweepers from repeating it."""
    open_turn_id: Mapped[int | None]
    """The open turn, kept on this row because only the row itself is re-read under its lock."""
    lease_token: Mapped[Count]
    """The fencing token: only grows."""
    lease_owner: Mapped[UUID | None]
    """No foreign key: each claim would lock its worker's row. Without that row nobody holds it."""
    lease_until: Mapped[datetime | None]
    superseding_since: Mapped[datetime | None]
    """When a reply was first held back for newer messages; NULL = none is held back."""
    paused_at: Mapped[datetime | None]
    """A person has taken over."""
    pause_reason: Mapped[str | None]
    """NULL = an operator paused it. `loop`: the loop breaker. `echo`: one of our staff wrote.
    `hand_over`: see `hand_overs`."""
    diverged_at: Mapped[datetime | None]
    note: Mapped[str | None]
    """What the model is told at the start of the next turn; NULL = nothing."""


class Message(Base):
    """One accepted inbound message. The envelope is kept whole; `outcome` names how it ended."""

    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("channel_user_id", "message_id"),
        UniqueConstraint("channel_user_id", "seq"),
        one_of("state", MessageState),
        # Metrics and reports group by outcome: a state without its outcome would vanish from them.
        CheckConstraint(
            "(state IN ('pending', 'in_turn')) = (outcome IS NULL)", name="outcome_when_ended"
        ),
        # Partial: it stays small while the table grows. In the order in which a turn takes them.
        # No index may have a column that the end of a turn changes: each message would pay for it.
        partial(
            "ix_messages_waiting",
            "channel_user_id",
            "order_at",
            "seq",
            when="turn_id IS NULL AND dropped_at IS NULL",
        ),
        partial("ix_messages_turn_id", "turn_id", when="turn_id IS NOT NULL"),
        gateway_id("messages"),
        # For retention; rows leave the index as they are redacted.
        partial(
            "ix_messages_dropped",
            "dropped_at",
            "id",
            when="dropped_at IS NOT NULL AND redacted_at IS NULL",
        ),
        {"postgresql_with": {"fillfactor": 85}},
    )

    id: Mapped[BigIntKey]
    channel_user_id: Mapped[int]
    """No foreign key, as for the turn, but a trigger of that table: see decision 68."""
    message_id: Mapped[str]
    seq: Mapped[int]
    """Order of acceptance within the channel user; gaps mean nothing."""
    order_at: Mapped[datetime]
    """Sort key of pending messages: `sent_at` if given and past, else the acceptance."""
    agent: Mapped[str]
    envelope: Mapped[dict[str, Any]]
    expires_at: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(server_default=MessageState.PENDING.value)
    outcome: Mapped[str | None]
    turn_id: Mapped[int | None]
    late: Mapped[Flag]
    """Sent before something that was already being answered when this arrived."""
    alone: Mapped[Flag]
    """It was part of a turn that Telnyx refused, and gets a turn of its own."""
    conflicts: Mapped[Count]
    """How often the same `message_id` came with another body; the first body is kept."""
    accepted_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
    redacted_at: Mapped[datetime | None]
    """When retention emptied the envelope; NULL = it is there."""
    dropped_at: Mapped[datetime | None]
    """When it ended without a turn: `finished_at`; NULL = it has a turn, or waits."""
    traceparent: Mapped[str | None]
    """The W3C context of its acceptance: turn and delivery go on in its trace."""
    task_id: Mapped[UUID | None]
    """The Celery task that brought it. No index: only `worker why` looks for it."""


class InboxEntry(Base):
    """A raw envelope of a producer that speaks SQL, or one that shall wait; accept drains it."""

    __tablename__ = "inbox"
    __table_args__ = (
        Index("ix_inbox_due", text("coalesce(not_before, '-infinity')"), "id"),
        gateway_id("inbox"),
    )

    id: Mapped[BigIntKey]
    envelope: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]
    not_before: Mapped[datetime | None]
    """It is accepted then; NULL = at once, or not looked at yet."""
    expires_at: Mapped[datetime | None]
    """Of the queue entry that it came in; an envelope's own `expires_at` comes first."""
    task_id: Mapped[UUID | None]
    """The Celery task that brought it, or the gateway's id; NULL = it came by SQL."""
