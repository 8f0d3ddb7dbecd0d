"""Tables of e-mail: mails and mailboxes."""

from datetime import datetime

from sqlalchemy import ARRAY, ForeignKey, Index, LargeBinary, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from worker.store.schema.base import Base, BigIntKey, Count, CreatedAt, partial


class MailRow(Base):
    """What threads and replies need of a mail; `message_outcomes` has what became of it."""

    __tablename__ = "mails"
    __table_args__ = (
        UniqueConstraint("channel", "recipient", "address", "message_id"),
        partial("ix_mails_delivery_id", "delivery_id", when="delivery_id IS NOT NULL"),
        Index("ix_mails_address", "address"),
        partial("ix_mails_unredacted", "created_at", when="redacted_at IS NULL"),
    )

    id: Mapped[BigIntKey]
    channel: Mapped[str]
    recipient: Mapped[str]
    """Our address."""
    address: Mapped[str]
    """The person's."""
    thread: Mapped[str]
    root: Mapped[str]
    """Message-ID of the first mail of the thread."""
    message_id: Mapped[str]
    """Of ours, the one that a relay has given it."""
    refs: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    """References of an answer."""
    subject: Mapped[str] = mapped_column(server_default="")
    reply_to: Mapped[str | None]
    from_name: Mapped[str] = mapped_column(server_default="")
    smtp_sender: Mapped[str | None]
    """Of MAIL FROM; NULL = not known."""
    smtp_recipient: Mapped[str | None]
    dmarc: Mapped[str | None]
    """The result that our own server has found."""
    verdict: Mapped[str | None]
    """The rule of screening that fits; NULL = a model answers it."""
    extraction_version: Mapped[int | None]
    left_out: Mapped[Count]
    """Lines of earlier mails or a signature that the model does not get."""
    original: Mapped[str | None]
    """The whole text."""
    raw: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The mail as it came, if the channel keeps it."""
    delivery_id: Mapped[int | None] = mapped_column(ForeignKey("deliveries.id"))
    """It is ours."""
    created_at: Mapped[CreatedAt]
    redacted_at: Mapped[datetime | None]


class Mailbox(Base):
    """How far a mailbox was read; UIDs count within a UIDVALIDITY, see RFC 3501 2.3.1.1."""

    __tablename__ = "mailboxes"

    name: Mapped[str] = mapped_column(primary_key=True)
    uidvalidity: Mapped[int]
    last_uid: Mapped[int]
    looked_at: Mapped[datetime]
    """When all of its mails were last dealt with."""
    since: Mapped[datetime] = mapped_column(server_default=text("service_now()"))
    """Mails up to `filtered_to` that arrived earlier are passed over."""
    filtered_to: Mapped[int] = mapped_column(server_default=text("0"))
