"""Tables of replies and their deliveries (the outbox)."""

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from worker.domain.states import DeliveryState, ReplySource
from worker.store.schema.base import (
    At,
    Base,
    BigInt,
    BigIntKey,
    Count,
    CreatedAt,
    RandomUuid,
    Str,
    one_of,
)


class Reply(Base):
    """The one answer of a turn."""

    __tablename__ = "replies"
    __table_args__ = (UniqueConstraint("turn_id"), one_of("source", ReplySource))

    id: Mapped[BigIntKey]
    turn_id: Mapped[BigInt] = mapped_column(ForeignKey("turns.id"))
    text: Mapped[Str]
    source: Mapped[Str]
    created_at: Mapped[CreatedAt]


class Delivery(Base):
    """Hands a reply to its channel, in order per channel user."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("reply_id"),
        one_of("state", DeliveryState),
        # Finds the first undone delivery of a channel user: a later one has to wait for it.
        Index(
            "ix_deliveries_undone",
            "channel_user_id",
            "id",
            postgresql_where=text("state IN ('pending', 'sending')"),
        ),
        Index("ix_deliveries_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    )

    id: Mapped[BigIntKey]
    reply_id: Mapped[BigInt] = mapped_column(ForeignKey("replies.id"))
    channel_user_id: Mapped[BigInt] = mapped_column(ForeignKey("channel_users.id"))
    channel: Mapped[Str]
    """The channel, or `route:NAME`, whose configuration the delivery follows."""
    idempotency_key: Mapped[RandomUuid]
    state: Mapped[Str] = mapped_column(server_default=DeliveryState.PENDING.value)
    attempts: Mapped[Count]
    due_at: Mapped[At | None]
    """Start of the next attempt; NULL = nothing is left to do."""
    first_attempt_at: Mapped[At | None]
    """Start of the day for which the idempotency key is valid."""
    lease_token: Mapped[Count]
    lease_until: Mapped[At | None]
    provider_id: Mapped[Str | None]
    provider_status: Mapped[Str | None]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[At | None]
