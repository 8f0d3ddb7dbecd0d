"""Tables for operators: gates, dead_letters, attempt_log, erasures, retention_passes."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from worker.domain.states import DeadLetterKind, Resolution
from worker.store.schema.base import (
    AnyUuid,
    At,
    Base,
    BigInt,
    BigIntKey,
    Count,
    CreatedAt,
    Json,
    Str,
    one_of,
)


class Gate(Base):
    """Holds calls back until a time: `account`, `model:…`, `agent:…`, `webhook:…`."""

    __tablename__ = "gates"

    name: Mapped[Str] = mapped_column(primary_key=True)
    closed_until: Mapped[At]
    reason: Mapped[Str]
    strikes: Mapped[Count]
    """Closings in a row without a success in between; the next wait grows with it."""
    changed_at: Mapped[CreatedAt]


class DeadLetter(Base):
    """A message that retries cannot help, kept until a person replays or dismisses it."""

    __tablename__ = "dead_letters"
    __table_args__ = (
        one_of("kind", DeadLetterKind),
        CheckConstraint(
            "resolution IN ("
            + ", ".join(f"'{value}'" for value in Resolution)
            + ") AND resolved_at IS NOT NULL OR resolution IS NULL AND resolved_at IS NULL",
            name="resolution",
        ),
        # Replaying looks at the one that is set.
        CheckConstraint("num_nonnulls(message_row_id, delivery_id, raw) = 1", name="one_subject"),
        Index("ix_dead_letters_unresolved", "id", postgresql_where=text("resolution IS NULL")),
        # One open dead letter a message: a second failure must not offer the message twice.
        Index(
            "uq_dead_letters_message",
            "message_row_id",
            unique=True,
            postgresql_where=text("resolution IS NULL AND message_row_id IS NOT NULL"),
        ),
        # Foreign keys: without these two, each deleted message or delivery would scan this table.
        Index(
            "ix_dead_letters_message_row_id",
            "message_row_id",
            postgresql_where=text("message_row_id IS NOT NULL"),
        ),
        Index(
            "ix_dead_letters_delivery_id",
            "delivery_id",
            postgresql_where=text("delivery_id IS NOT NULL"),
        ),
    )

    id: Mapped[BigIntKey]
    kind: Mapped[Str]
    message_row_id: Mapped[BigInt | None] = mapped_column(ForeignKey("messages.id"))
    delivery_id: Mapped[BigInt | None] = mapped_column(ForeignKey("deliveries.id"))
    raw: Mapped[bytes | None] = mapped_column(LargeBinary)
    queue: Mapped[Str] = mapped_column(server_default="")
    reason: Mapped[Str]
    """A stable code, see `worker/domain/reasons.py`."""
    detail: Mapped[Str] = mapped_column(server_default="")
    """The field and the expected value; never a value of the sender."""
    created_at: Mapped[CreatedAt]
    resolution: Mapped[Str | None]
    resolved_at: Mapped[At | None]


class AttemptLog(Base):
    """Append-only log of unusual events: ids, tokens, states, never texts."""

    __tablename__ = "attempt_log"
    __table_args__ = (Index("ix_attempt_log_channel_user_id", "channel_user_id", "id"),)

    id: Mapped[BigIntKey]
    at: Mapped[CreatedAt]
    event: Mapped[Str]
    channel_user_id: Mapped[BigInt | None]
    turn_id: Mapped[BigInt | None]
    call_id: Mapped[BigInt | None]
    token: Mapped[BigInt | None]
    worker_id: Mapped[AnyUuid | None]
    facts: Mapped[Json] = mapped_column(server_default=text("'{}'::jsonb"))


class Erasure(Base):
    """Proof that a channel user was erased, without the address."""

    __tablename__ = "erasures"
    __table_args__ = (
        Index(
            "uq_erasures_unfinished",
            "channel_user_id",
            unique=True,
            postgresql_where=text("finished_at IS NULL"),
        ),
    )

    id: Mapped[BigIntKey]
    channel_user_id: Mapped[BigInt]
    """The number of a deleted row, so no foreign key."""
    requested_at: Mapped[CreatedAt]
    finished_at: Mapped[At | None]
    """NULL = begun and not finished: `worker erase` has to run again."""
    removed: Mapped[Json] = mapped_column(server_default=text("'{}'::jsonb"))
    """Number of rows by table; also `telnyx_conversations` and `queue_entries`."""


class RetentionPass(Base):
    """Start of the last retention pass: one row, so that one worker at a time does it."""

    __tablename__ = "retention_passes"

    id: Mapped[BigInt] = mapped_column(primary_key=True, autoincrement=False)
    """Always 1."""
    began_at: Mapped[At]
