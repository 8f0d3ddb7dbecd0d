"""Tables of requests and answers: conversations, turns, calls, tool_calls."""

from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, false, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from worker.domain.states import CallState, ToolCallState, TurnKind, TurnState
from worker.store.schema.base import (
    AnyUuid,
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


class Conversation(Base):
    """Maps a channel user and an agent to a Telnyx conversation; one is open at a time."""

    __tablename__ = "conversations"
    __table_args__ = (
        UniqueConstraint("remote_key"),
        UniqueConstraint("telnyx_conversation_id"),
        # One open mapping a user and agent: two workers that both create one end in a conflict.
        Index(
            "uq_conversations_open",
            "channel_user_id",
            "agent",
            unique=True,
            postgresql_where=text("closed_at IS NULL"),
        ),
        Index("ix_conversations_channel_user_id", "channel_user_id"),
    )

    id: Mapped[BigIntKey]
    channel_user_id: Mapped[BigInt] = mapped_column(ForeignKey("channel_users.id"))
    agent: Mapped[Str]
    remote_key: Mapped[RandomUuid]
    """Idempotency-Key of the creation at Telnyx."""
    telnyx_conversation_id: Mapped[AnyUuid | None]
    base_user_messages: Mapped[Count]
    """Number of user messages in Telnyx's log when the conversation was adopted or re-based."""
    instructions_hash: Mapped[Str | None]
    """Hash of the instructions last sent on it; NULL = none were sent yet."""
    owes_outputs: Mapped[bool] = mapped_column(server_default=false())
    """The thread has tool calls without an output: the next turn begins with their outputs."""
    opened_at: Mapped[CreatedAt]
    closed_at: Mapped[At | None]
    close_reason: Mapped[Str | None]


class Turn(Base):
    """The messages answered together. `input_text` is exactly what is sent as the one user item."""

    __tablename__ = "turns"
    __table_args__ = (
        one_of("kind", TurnKind),
        one_of("state", TurnState),
        # One open turn a channel user, even if a lease should fail.
        Index(
            "uq_turns_open",
            "channel_user_id",
            unique=True,
            postgresql_where=text("state = 'open'"),
        ),
        # With the id, as turns of a conversation are read in the order they were opened.
        Index("ix_turns_conversation_id", "conversation_id", "id"),
        Index("ix_turns_channel_user_id", "channel_user_id", "id"),
        Index(
            "ix_turns_unredacted",
            "finished_at",
            "id",
            postgresql_where=text("finished_at IS NOT NULL AND redacted_at IS NULL"),
        ),
    )

    id: Mapped[BigIntKey]
    channel_user_id: Mapped[BigInt] = mapped_column(ForeignKey("channel_users.id"))
    conversation_id: Mapped[BigInt | None] = mapped_column(ForeignKey("conversations.id"))
    """NULL until the conversation is known, and for good where the channel is stateless."""
    agent: Mapped[Str]
    agent_version: Mapped[Str]
    """Hash of the definition of the agent that answers."""
    kind: Mapped[Str] = mapped_column(server_default=TurnKind.MODEL.value)
    input_text: Mapped[Str]
    parts: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    """Further content parts of the user item (images), as they are sent."""
    state: Mapped[Str] = mapped_column(server_default=TurnState.OPEN.value)
    landed: Mapped[bool | None]
    """Whether its user item is in Telnyx's log; NULL = not known."""
    failure: Mapped[Str | None]
    """Why it has no answer of the model; NULL while open and when answered."""
    opened_at: Mapped[CreatedAt]
    finished_at: Mapped[At | None]
    redacted_at: Mapped[At | None]
    """When retention removed the texts of the turn and its rows; NULL = they are kept."""


class Call(Base):
    """One intended POST. The row is committed before the first byte leaves."""

    __tablename__ = "calls"
    __table_args__ = (
        one_of("state", CallState),
        # The last fence against two requests at once: a second intent violates this.
        Index(
            "uq_calls_intended",
            "channel_user_id",
            unique=True,
            postgresql_where=text("state = 'intended'"),
        ),
        UniqueConstraint("turn_id", "round", "attempt"),
    )

    id: Mapped[BigIntKey]
    channel_user_id: Mapped[BigInt] = mapped_column(ForeignKey("channel_users.id"))
    turn_id: Mapped[BigInt] = mapped_column(ForeignKey("turns.id"))
    conversation_id: Mapped[BigInt | None] = mapped_column(ForeignKey("conversations.id"))
    round: Mapped[Count]
    attempt: Mapped[Count]
    token: Mapped[BigInt]
    worker_id: Mapped[AnyUuid | None]
    instructions_hash: Mapped[Str | None]
    """Hash of the instructions in the request; NULL = it had none."""
    intent_at: Mapped[CreatedAt]
    finished_at: Mapped[At | None]
    state: Mapped[Str] = mapped_column(server_default=CallState.INTENDED.value)
    reason: Mapped[Str | None]
    status: Mapped[int | None]
    code: Mapped[Str | None]
    request_id: Mapped[Str | None]
    response_id: Mapped[Str | None]
    output: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    input_tokens: Mapped[BigInt | None]
    output_tokens: Mapped[BigInt | None]


class ToolCall(Base):
    """One function the model asked for; committed before the function runs."""

    __tablename__ = "tool_calls"
    __table_args__ = (
        UniqueConstraint("turn_id", "round", "call_id"),
        one_of("state", ToolCallState),
    )

    id: Mapped[BigIntKey]
    turn_id: Mapped[BigInt] = mapped_column(ForeignKey("turns.id"))
    round: Mapped[Count]
    call_id: Mapped[Str]
    name: Mapped[Str]
    arguments: Mapped[Str]
    output: Mapped[Str | None]
    state: Mapped[Str] = mapped_column(server_default=ToolCallState.STARTED.value)
    token: Mapped[Count]
    """Fencing token of the lease that started it."""
    answered_at: Mapped[At | None]
    """When a later call brought its output to the thread; NULL = the thread lacks it."""
    started_at: Mapped[CreatedAt]
    finished_at: Mapped[At | None]
