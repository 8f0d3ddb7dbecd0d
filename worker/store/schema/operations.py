"""Tables for operators and of limits: gates, dead letters, the attempt log, erasures, rates."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from worker.domain.people.hand_over import HandOverReason
from worker.domain.states import ConsentSource, DeadLetterKind, Resolution
from worker.store.schema.base import (
    Base,
    BigIntKey,
    Count,
    CreatedAt,
    Facts,
    gateway_id,
    one_of,
    partial,
)


class Gate(Base):
    """Holds calls back until a time: `account`, `model:…`, `agent:…`, `webhook:…`, `telnyx:…`."""

    __tablename__ = "gates"

    name: Mapped[str] = mapped_column(primary_key=True)
    closed_until: Mapped[datetime]
    reason: Mapped[str]
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
        partial("ix_dead_letters_unresolved", "id", when="resolution IS NULL"),
        # One open dead letter a message: a second failure must not offer the message twice.
        partial(
            "uq_dead_letters_message",
            "message_row_id",
            when="resolution IS NULL AND message_row_id IS NOT NULL",
        ),
        # Foreign keys: without these two, each deleted message or delivery would scan this table.
        partial(
            "ix_dead_letters_message_row_id", "message_row_id", when="message_row_id IS NOT NULL"
        ),
        partial("ix_dead_letters_delivery_id", "delivery_id", when="delivery_id IS NOT NULL"),
        partial("uq_dead_letters_notice_id", "notice_id", when="notice_id IS NOT NULL"),
        # For the view `message_outcomes`, which a waiting producer reads several times a second.
        partial(
            "ix_dead_letters_names", text("(names ->> 'message_id')"), when="names IS NOT NULL"
        ),
        gateway_id("dead_letters"),
    )

    id: Mapped[BigIntKey]
    kind: Mapped[str]
    message_row_id: Mapped[int | None] = mapped_column(ForeignKey("messages.id"))
    delivery_id: Mapped[int | None] = mapped_column(ForeignKey("deliveries.id"))
    raw: Mapped[bytes | None] = mapped_column(LargeBinary)
    queue: Mapped[str] = mapped_column(server_default="")
    reason: Mapped[str]
    """A stable code, see `worker/domain/reasons.py`."""
    detail: Mapped[str] = mapped_column(server_default="")
    """The field and the expected value; never a value of the sender."""
    created_at: Mapped[CreatedAt]
    task_id: Mapped[UUID | None]
    """The Celery task that brought the entry; NULL = none, or not known."""
    sender: Mapped[dict[str, str] | None] = mapped_column(JSONB)
    """Headers of the sender: `task`, `origin`, `lang`, `traceparent`."""
    names: Mapped[dict[str, str] | None] = mapped_column(JSONB)
    """`channel`, `recipient`, `user`, `thread` and `message_id` of a refused message."""
    notice_id: Mapped[int | None] = mapped_column(ForeignKey("deliveries.id"))
    """The delivery that tells its producer of it."""
    resolution: Mapped[str | None]
    resolved_at: Mapped[datetime | None]


class Consent(Base):
    """The ledger of opt-outs and opt-ins: append-only, the newest row of an address decides."""

    __tablename__ = "consents"
    __table_args__ = (
        one_of("source", ConsentSource),
        Index("ix_consents_address_hash", "address_hash", "id"),
    )

    id: Mapped[BigIntKey]
    scope: Mapped[str]
    """`telephone` (SMS, MMS, WhatsApp), `email`, or the name of another channel."""
    address_hash: Mapped[bytes] = mapped_column(LargeBinary)
    """HMAC-SHA-256 of scope, NUL and address under the key `consents` in `secrets`."""
    address: Mapped[str | None]
    """NULL = the person was erased; the hash stays, so that they are not written to again."""
    stopped: Mapped[bool]
    source: Mapped[str]
    channel: Mapped[str] = mapped_column(server_default="")
    """Where they said so, with `recipient`; empty = an operator or an import."""
    recipient: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[CreatedAt]


class Secret(Base):
    """Keys that must not get lost, so they are backed up together with what they protect."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary)


class AttemptLog(Base):
    """Append-only log of unusual events: ids, tokens, states, never texts."""

    __tablename__ = "attempt_log"
    __table_args__ = (Index("ix_attempt_log_channel_user_id", "channel_user_id", "id"),)

    id: Mapped[BigIntKey]
    at: Mapped[CreatedAt]
    event: Mapped[str]
    channel_user_id: Mapped[int | None]
    turn_id: Mapped[int | None]
    call_id: Mapped[int | None]
    token: Mapped[int | None]
    worker_id: Mapped[UUID | None]
    facts: Mapped[Facts]


class HandOver(Base):
    """A channel user who was handed over to our staff; they are paused until somebody resumes."""

    __tablename__ = "hand_overs"
    __table_args__ = (
        one_of("reason", HandOverReason),
        Index("ix_hand_overs_channel_user_id", "channel_user_id"),
        partial("uq_hand_overs_notice_id", "notice_id", when="notice_id IS NOT NULL"),
    )

    id: Mapped[BigIntKey]
    channel_user_id: Mapped[int] = mapped_column(ForeignKey("channel_users.id"))
    turn_id: Mapped[int | None] = mapped_column(ForeignKey("turns.id"))
    """The turn that led to it; NULL = what the person wrote."""
    agent: Mapped[str]
    reason: Mapped[str]
    notice_id: Mapped[int | None] = mapped_column(ForeignKey("deliveries.id"))
    """The delivery that tells our staff of it."""
    created_at: Mapped[CreatedAt]
    ended_at: Mapped[datetime | None]
    """When somebody resumed; NULL = the person waits for our staff."""


class Audit(Base):
    """One view or action of our staff in the console: who, what and when, never a text.

    Rows of a person who is erased stay: their number leads to nobody any more.
    """

    __tablename__ = "audits"
    __table_args__ = (
        partial(
            "ix_audits_channel_user_id",
            "channel_user_id",
            "id",
            when="channel_user_id IS NOT NULL",
        ),
        partial("ix_audits_logouts", "who", "id", when="action = 'logout'"),
    )

    id: Mapped[BigIntKey]
    at: Mapped[CreatedAt]
    who: Mapped[str]
    """The name that belongs to the token, or that the reverse proxy gives."""
    action: Mapped[str]
    """`login` begins a session, `logout` ends those of its person; else page and action."""
    channel_user_id: Mapped[int | None]
    """The number of a row that may be deleted, so no foreign key."""
    subject_id: Mapped[int | None]
    """The message, reply or dead letter; NULL = the channel user, or nothing in particular."""


class Erasure(Base):
    """Proof that a channel user was erased, without the address."""

    __tablename__ = "erasures"
    __table_args__ = (
        partial("uq_erasures_unfinished", "channel_user_id", when="finished_at IS NULL"),
    )

    id: Mapped[BigIntKey]
    channel_user_id: Mapped[int]
    """The number of a deleted row, so no foreign key."""
    requested_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
    """NULL = begun and not finished: `worker erase` has to run again."""
    removed: Mapped[Facts]
    """Number of rows by table; also `telnyx_conversations` and `queue_entries`."""


class RetentionPass(Base):
    """Start of the last retention pass: one row, so that one worker at a time does it."""

    __tablename__ = "retention_passes"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Always 1."""
    began_at: Mapped[datetime]


class Lock(Base):
    """What one process at a time does, see `worker.store.locks`; the rows are locked, not read."""

    __tablename__ = "locks"

    name: Mapped[str] = mapped_column(primary_key=True)


class Cluster(Base):
    """What the service knows of its Postgres; one row, from the first heartbeat on."""

    __tablename__ = "cluster"
    __table_args__ = (CheckConstraint("one", name="one"),)

    one: Mapped[bool] = mapped_column(primary_key=True, server_default=true())
    identity: Mapped[str | None]
    """System identifier, timeline and the table's own id; NULL until a heartbeat has read it."""
    replaced_at: Mapped[datetime | None]
    """When heartbeats noticed that it is another one, so that commits may be missing."""
    jumped_at: Mapped[datetime | None]
    """When its clock jumped: from then on T_QUIET counts anew."""
    complete_on: Mapped[str | None]
    """The run of Postgres, and the installation, whose conversations at Telnyx were all found in
    the table; NULL = that was never so."""
    complete_at: Mapped[datetime | None]
    """When that was last so. Before `replaced_at` it says nothing any more."""
    asked_at: Mapped[datetime | None]
    """When Telnyx was asked last."""


class BudgetDay(Base):
    """Use of an agent's budget on the latest day: the sum of the agent's parts."""

    __tablename__ = "budget_days"

    agent: Mapped[str] = mapped_column(primary_key=True)
    part: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    """A share of the users: with one row, all transactions would wait for its lock."""
    day: Mapped[date] = mapped_column(Date)
    """In UTC."""
    messages: Mapped[Count]
    tokens: Mapped[Count]


class Rate(Base):
    """When the next call of any worker may start, or the next message from an address of ours."""

    __tablename__ = "rates"
    # UNLOGGED: each call updates the row, and its value is worthless after a crash.
    __table_args__ = {"prefixes": ["UNLOGGED"]}  # noqa: RUF012 - as SQLAlchemy takes it

    name: Mapped[str] = mapped_column(primary_key=True)
    free_at: Mapped[datetime]
    day: Mapped[date | None]
    """The day of UTC that `used` counts; NULL = calls, which have no limit of a day."""
    used: Mapped[int | None] = mapped_column(Integer)
