"""Tables of requests and answers: conversations, turns, calls, tool calls, replies, deliveries."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    REAL,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from worker.domain.states import (
    CallState,
    DeliveryState,
    ReplySource,
    ToolCallState,
    TurnKind,
    TurnState,
)
from worker.store.schema.base import (
    Base,
    BigIntKey,
    Count,
    CreatedAt,
    Flag,
    RandomUuid,
    one_of,
    partial,
)


class Conversation(Base):
    """Maps a channel user and an agent to a Telnyx conversation; one is open at a time."""

    __tablename__ = "conversations"
    __table_args__ = (
        # One open mapping a user and agent: two workers that both create one end in a conflict.
        partial("uq_conversations_open", "channel_user_id", "agent", when="closed_at IS NULL"),
    )

    id: Mapped[BigIntKey]
    channel_user_id: Mapped[int] = mapped_column(ForeignKey("channel_users.id"), index=True)
    agent: Mapped[str]
    remote_key: Mapped[RandomUuid] = mapped_column(unique=True)
    """Idempotency-Key of the creation at Telnyx."""
    telnyx_conversation_id: Mapped[UUID | None] = mapped_column(unique=True)
    base_user_messages: Mapped[Count]
    """Number of user messages in Telnyx's log when the conversation was adopted or re-based."""
    instructions_hash: Mapped[str | None]
    """Hash of the instructions last sent on it; NULL = none were sent yet."""
    owes_outputs: Mapped[Flag]
    """The thread has tool calls without an output: the next turn begins with their outputs."""
    opened_at: Mapped[CreatedAt]
    compared_at: Mapped[datetime | None]
    """When Telnyx's log was compared with our records, after a loss of commits; NULL = never."""
    closed_at: Mapped[datetime | None]
    close_reason: Mapped[str | None]


class Turn(Base):
    """The messages answered together. `input_text` is exactly what is sent as the one user item."""

    __tablename__ = "turns"
    __table_args__ = (
        one_of("kind", TurnKind),
        one_of("state", TurnState),
        # With the id, as turns of a conversation are read in the order they were opened.
        Index("ix_turns_conversation_id", "conversation_id", "id"),
        Index("ix_turns_channel_user_id", "channel_user_id", "id"),
        # Of no column that the end of the turn changes, as each turn would pay for it.
        partial("ix_turns_unredacted_since", "opened_at", "id", when="redacted_at IS NULL"),
        {"postgresql_with": {"fillfactor": 85}},
    )

    id: Mapped[BigIntKey]
    channel_user_id: Mapped[int]
    """No foreign key, but a trigger of the user's table: see decision 68."""
    conversation_id: Mapped[int | None]
    """NULL until the conversation is known, and for good where the channel is stateless.

    No foreign key, which would lock a row that a turn does not change: see decision 56.
    """
    agent: Mapped[str]
    agent_version: Mapped[str]
    """Hash of the definition of the agent that answers."""
    kind: Mapped[str] = mapped_column(server_default=TurnKind.MODEL.value)
    input_text: Mapped[str]
    parts: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    """Further content parts of the user item (images), as they are sent."""
    state: Mapped[str] = mapped_column(server_default=TurnState.OPEN.value)
    """One is open for each channel user: `channel_users.open_turn_id`, see decision 66."""
    landed: Mapped[bool | None]
    """Whether its user item is in Telnyx's log; NULL = not known."""
    failure: Mapped[str | None]
    """Why it has no answer of the model; NULL while open and when answered."""
    opened_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
    redacted_at: Mapped[datetime | None]
    """When retention removed the texts of the turn and its rows; NULL = they are kept."""


class Call(Base):
    """One intended POST. The row is committed before the first byte leaves."""

    __tablename__ = "calls"
    __table_args__ = (
        one_of("state", CallState),
        # The last fence against two requests at once: a second intent violates this.
        partial("uq_calls_intended", "channel_user_id", when="state = 'intended'"),
        UniqueConstraint("turn_id", "round", "attempt"),
    )

    id: Mapped[BigIntKey]
    channel_user_id: Mapped[int]
    """Its turn's; no foreign key, see decision 56."""
    turn_id: Mapped[int]
    """No foreign key, but a trigger of `turns`: see decision 68."""
    conversation_id: Mapped[int | None]
    """No foreign key, as for the user."""
    round: Mapped[Count]
    attempt: Mapped[Count]
    token: Mapped[int]
    worker_id: Mapped[UUID | None]
    instructions_hash: Mapped[str | None]
    """Hash of the instructions in the request; NULL = it had none."""
    intent_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(server_default=CallState.INTENDED.value)
    reason: Mapped[str | None]
    status: Mapped[int | None] = mapped_column(Integer)
    code: Mapped[str | None]
    request_id: Mapped[str | None]
    response_id: Mapped[str | None]
    output: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]


class ToolCall(Base):
    """One function the model asked for; committed before the function runs."""

    __tablename__ = "tool_calls"
    __table_args__ = (
        UniqueConstraint("turn_id", "round", "call_id"),
        one_of("state", ToolCallState),
    )

    id: Mapped[BigIntKey]
    turn_id: Mapped[int] = mapped_column(ForeignKey("turns.id"))
    round: Mapped[Count]
    call_id: Mapped[str]
    """The model's id; ours, if the model's is missing, too long, or used twice in one answer."""
    given_ids: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """The model's ids if `call_id` is ours: several, if the row stands for all further calls."""
    name: Mapped[str]
    arguments: Mapped[str]
    output: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default=ToolCallState.STARTED.value)
    token: Mapped[Count]
    """Fencing token of the lease that started it."""
    answered_at: Mapped[datetime | None]
    """When a later call brought its output to the thread; NULL = the thread lacks it."""
    started_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]


class Reply(Base):
    """The one answer of a turn."""

    __tablename__ = "replies"
    __table_args__ = (one_of("source", ReplySource),)

    id: Mapped[BigIntKey]
    turn_id: Mapped[int] = mapped_column(unique=True)
    """No foreign key, but a trigger of `turns`: see decision 68."""
    text: Mapped[str]
    draft: Mapped[str | None]
    """As the model wrote it, if one of our staff has changed it."""
    changed: Mapped[float | None] = mapped_column(REAL)
    """The share of the draft's words that they changed, from 0 to 1."""
    source: Mapped[str]
    created_at: Mapped[CreatedAt]


class DisclosureRow(Base):
    """A delivery that told a person that an AI writes; of a thread of mails, the first one."""

    __tablename__ = "disclosures"
    __table_args__ = (Index("ix_disclosures_channel_user_id", "channel_user_id"),)

    id: Mapped[BigIntKey]
    channel_user_id: Mapped[int] = mapped_column(ForeignKey("channel_users.id"))
    conversation_id: Mapped[int | None] = mapped_column(ForeignKey("conversations.id"))
    """NULL = the channel is stateless: once for all."""
    delivery_id: Mapped[int] = mapped_column(ForeignKey("deliveries.id"), unique=True)
    language: Mapped[str]
    text: Mapped[str]
    created_at: Mapped[CreatedAt]


class Delivery(Base):
    """Hands a reply to its channel, in order per channel user."""

    __tablename__ = "deliveries"
    __table_args__ = (
        one_of("state", DeliveryState),
        # Finds the first undone delivery of a channel user: a later one has to wait for it.
        partial(
            "ix_deliveries_undone", "channel_user_id", "id", when="state IN ('pending', 'sending')"
        ),
        partial("ix_deliveries_due_at", "due_at", when="due_at IS NOT NULL"),
        partial("ix_deliveries_held", "channel_user_id", when="state = 'held'"),
        # For metrics: what was decided lately.
        partial("ix_deliveries_reviewed_at", "reviewed_at", when="reviewed_at IS NOT NULL"),
        partial("ix_deliveries_part_of", "part_of", when="part_of IS NOT NULL"),
        # A foreign key: without it, each deleted delivery would scan this table.
        partial("ix_deliveries_repeats", "repeats", when="repeats IS NOT NULL"),
        # Receipts name the key, or else the provider's id.
        partial("uq_deliveries_request_key", "idempotency_key", when="request IS NOT NULL"),
        partial(
            "ix_deliveries_provider_id",
            "provider_id",
            when="request IS NOT NULL AND provider_id IS NOT NULL",
        ),
    )

    id: Mapped[BigIntKey]
    reply_id: Mapped[int | None] = mapped_column(unique=True)
    """NULL = it is a later piece of a reply, or tells a producer of a refusal: the dead letter that
    names it as its notice. No foreign key, but a trigger of `replies`: see decision 68."""
    part_of: Mapped[int | None] = mapped_column(ForeignKey("deliveries.id"))
    """The delivery of the reply's first piece; NULL = it is the first, or the whole reply."""
    repeats: Mapped[int | None] = mapped_column(ForeignKey("deliveries.id"))
    """The delivery that was taken and failed, and that this one repeats with another key."""
    channel_user_id: Mapped[int]
    """Its turn's, or one of the producer that it tells; no foreign key, see decision 56."""
    channel: Mapped[str]
    """The channel, or `route:NAME`, whose configuration the delivery follows."""
    idempotency_key: Mapped[RandomUuid]
    state: Mapped[str] = mapped_column(server_default=DeliveryState.PENDING.value)
    attempts: Mapped[Count]
    due_at: Mapped[datetime | None]
    """Start of the next attempt; NULL = nothing is left to do."""
    first_attempt_at: Mapped[datetime | None]
    """Start of the day for which the idempotency key is valid."""
    lease_token: Mapped[Count]
    lease_until: Mapped[datetime | None]
    permit_at: Mapped[datetime | None]
    """The moment that it has reserved to be sent; NULL = none yet, or its channel has no limit."""
    request: Mapped[str | None]
    """The body that every attempt sends; NULL = the channel builds it at each attempt."""
    parts: Mapped[int | None] = mapped_column(SmallInteger)
    """The number of text messages that it counts as; NULL = it is none."""
    counts_from: Mapped[datetime | None]
    """The end of a wait for people or hours, from which its age counts; NULL = there was none."""
    held_for: Mapped[str | None]
    """Why it is or was a draft; NULL = it never was."""
    approved_state: Mapped[str | None]
    """Of a draft: the state that an approval gives it."""
    reviewed_by: Mapped[str | None]
    """Who decided about the draft."""
    reviewed_at: Mapped[datetime | None]
    exempt_until: Mapped[datetime | None]
    """Until then it may go out to somebody who has opted out; NULL = it may not."""
    provider_id: Mapped[str | None]
    provider_status: Mapped[str | None]
    receipt: Mapped[str | None]
    """What the provider reported last of its way to the person; NULL = nothing yet."""
    receipt_error: Mapped[str | None]
    """The code of the first error among those reports."""
    receipt_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
