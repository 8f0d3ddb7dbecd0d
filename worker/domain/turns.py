"""What to do next for one channel user, decided from what Postgres holds.

Steps:
    Release    nothing now; come back at `due_at`
    Send       POST the open turn; nothing of it can be at Telnyx yet
    Prepare    the turn needs a Telnyx conversation first
    LookBack   an earlier call may have happened: read Telnyx's side before anything else

A step that carries a `batch` opens the turn over it. The decision is pure; the store takes it and
carries it out within the same transaction as the claim.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from worker.domain.agents import Routing
from worker.domain.calls import Fault
from worker.domain.ids import (
    CallId,
    ChannelUserId,
    ConversationId,
    TelnyxConversationId,
    TurnId,
)
from worker.domain.messages import ChannelAddress, PendingMessage, next_batch
from worker.domain.states import CallState


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to work one channel user; every write is checked against the token."""

    user_id: ChannelUserId
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """An earlier call of the open turn."""

    id: CallId
    round: int
    attempt: int
    state: CallState
    intent_at: datetime
    conversation_id: ConversationId | None = None
    status: int | None = None
    fault: Fault | None = None
    """Of a refused call."""

    @property
    def outcome_unknown(self) -> bool:
        """Whether it may yet turn up; an `intended` one was left by a worker that died."""
        return self.state in {CallState.UNKNOWN, CallState.INTENDED}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenConversation:
    """The open mapping of a channel user and an agent."""

    id: ConversationId
    agent: str
    remote_key: UUID
    telnyx_id: TelnyxConversationId | None
    """None = committed, but not yet found or created at Telnyx."""
    base_user_messages: int
    instructions_hash: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTurn:
    """The turn that is being answered."""

    id: TurnId
    agent: str
    input_text: str
    parts: tuple[dict[str, object], ...]
    opened_at: datetime
    messages: int
    """How many messages it answers."""
    conversation_id: ConversationId | None = None
    calls: tuple[CallRecord, ...] = ()

    @property
    def doubtful_calls(self) -> tuple[CallRecord, ...]:
        """Calls that may have reached the conversation that the turn is on now."""
        return tuple(
            call
            for call in self.calls
            if call.state is not CallState.NOT_SENT and call.conversation_id == self.conversation_id
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Everything about one channel user that the next step depends on, read under his lock."""

    lease: Lease
    who: ChannelAddress
    now: datetime
    """The database's time, as all times here."""
    turn: OpenTurn | None
    pending: tuple[PendingMessage, ...]
    """In order; empty while a turn is open."""
    conversation: OpenConversation | None
    """Of the agent that the open turn or the first pending message is for."""
    gates: Mapping[str, datetime]
    """Until when each gate is or was closed, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Let go of the user until `due_at`; None = until something new arrives."""

    due_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Commit the intent and POST."""

    agent: str
    batch: tuple[PendingMessage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Find or create the Telnyx conversation, then commit the intent and POST."""

    agent: str
    batch: tuple[PendingMessage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LookBack:
    """Read Telnyx's side of the open turn."""

    agent: str
    batch: tuple[PendingMessage, ...] = ()


Step: TypeAlias = Release | Send | Prepare | LookBack


def gate_names(*, agent: str, model: str) -> tuple[str, str, str]:
    """Name the gates that a call of this agent passes."""
    return ("account", f"model:{model}", f"agent:{agent}")


def next_step(head: Head, routing: Routing) -> Step:
    """Decide the next step of one channel user. Raises `UnknownAgentError`."""
    if head.turn is None and not head.pending:
        return Release()
    agent = routing.agent(head.turn.agent if head.turn else head.pending[0].agent)
    closed = [head.gates.get(name) for name in gate_names(agent=agent.name, model=agent.model)]
    closed_until = max((until for until in closed if until and until > head.now), default=None)
    if closed_until is not None:
        return Release(due_at=closed_until)
    batch = () if head.turn else next_batch(head.pending)
    if head.turn and head.turn.doubtful_calls:
        return LookBack(agent=agent.name)
    ready = head.conversation is not None and head.conversation.telnyx_id is not None
    if ready or not routing.channel(head.who.channel).persist:
        return Send(agent=agent.name, batch=batch)
    return Prepare(agent=agent.name, batch=batch)


def seconds(value: float) -> timedelta:
    """Shorthand: times in decisions are seconds."""
    return timedelta(seconds=value)
