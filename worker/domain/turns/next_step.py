"""What to do next for one channel user, decided from what Postgres holds.

Steps:
    Release    nothing now; come back at `due_at`
    Send       POST the open turn; nothing of it can be at Telnyx yet
    Record     add it to Telnyx's log without an answer: a person has taken over
    Prepare    the turn needs a Telnyx conversation first
    LookBack   an earlier call may have happened: read Telnyx's side before anything else
    GoOn       the model has asked for tools: run what has not run, and tell it what came of them

A step that carries a `batch` opens the turn over it. The decision is pure; the store takes it and
carries it out within the same transaction as the claim.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from worker.domain.ids import (
    CallId,
    ChannelUserId,
    ConversationId,
    MessageRowId,
    TelnyxConversationId,
    TurnId,
)
from worker.domain.messages import MAX_TURN_MESSAGES, ChannelAddress, PendingMessage, next_batch
from worker.domain.routing import Agent, ChannelPolicy, Routing
from worker.domain.states import CallState, ToolCallState, TurnKind
from worker.domain.turns.calls import Fault


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
class ToolRecord:
    """A tool call of the model, committed before the tool runs."""

    turn_id: TurnId
    round: int
    """Of the call that asked for it; the next round's call carries its output."""
    call_id: str
    name: str
    arguments: str
    token: int
    """Of the lease that started it: under another, it was left behind by a worker that died."""
    state: ToolCallState = ToolCallState.STARTED
    output: str | None = None
    """What the model is told; None while it runs."""


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
    turns: int = 0
    """How many it has had; not counted beyond what rotation asks for."""
    last_turn_at: datetime | None = None
    owed: tuple[ToolRecord, ...] = ()
    """Tool calls of earlier turns that the thread has no output of."""


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
    kind: TurnKind = TurnKind.MODEL
    conversation_id: ConversationId | None = None
    reply_to: str | None = None
    """The route of its reply; None = as the channel has it."""
    traceparents: tuple[str, ...] = ()
    """Of its messages that have one, in order."""
    calls: tuple[CallRecord, ...] = ()
    tool_calls: tuple[ToolRecord, ...] = ()
    """Oldest first, of all rounds."""

    @property
    def round(self) -> int:
        """Which round the next call is of: 0 sends the user item, the others what tools gave."""
        return 1 + max((one.round for one in self.tool_calls), default=-1)

    @property
    def unfinished_tools(self) -> tuple[ToolRecord, ...]:
        """Tool calls without an output."""
        return tuple(one for one in self.tool_calls if one.state is ToolCallState.STARTED)

    @property
    def is_said_by_us(self) -> bool:
        """Whether one of our people says it: no message is answered, and it is no user item."""
        return self.kind is TurnKind.HUMAN and self.messages == 0

    @property
    def doubtful_calls(self) -> tuple[CallRecord, ...]:
        """Calls of this round that may have reached the conversation that the turn is on now."""
        return tuple(
            call
            for call in self.calls
            if call.round == self.round
            and call.state is not CallState.NOT_SENT
            and call.conversation_id == self.conversation_id
        )

    @property
    def is_in_thread(self) -> bool:
        """Whether the conversation that the turn is on now has its user item, for certain."""
        return self.conversation_id is not None and any(
            call.round < self.round and call.conversation_id == self.conversation_id
            for call in self.calls
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
    paused: bool = False
    """A person has taken over."""
    gates: Mapping[str, datetime]
    """Until when each gate is or was closed, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Let go of the user until `due_at`; None = until something new arrives."""

    due_at: datetime | None = None
    expired: tuple[MessageRowId, ...] = ()
    over_budget: tuple[MessageRowId, ...] = ()
    trouble: str | None = None
    """What an operator has to mend; None = nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Commit the intent and POST."""

    agent: str
    batch: tuple[PendingMessage, ...] = ()
    expired: tuple[MessageRowId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Add the turn's words to Telnyx's log, so that the thread stays whole; nobody answers."""

    agent: str
    batch: tuple[PendingMessage, ...] = ()
    expired: tuple[MessageRowId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Find or create the Telnyx conversation, then commit the intent and POST."""

    agent: str
    batch: tuple[PendingMessage, ...] = ()
    expired: tuple[MessageRowId, ...] = ()
    close: str | None = None
    """Why the open conversation is closed first; None = there is none, or it is not ready yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookBack:
    """Read Telnyx's side of the open turn."""

    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GoOn:
    """Run the tools that have not run, commit the next intent and POST."""

    agent: str


Step: TypeAlias = Release | Send | Record | Prepare | LookBack | GoOn

UNKNOWN_AGENT_WAIT_S = 60.0


def gate_names(*, agent: str, model: str) -> tuple[str, str, str]:
    """Name the gates that a call of this agent passes."""
    return ("account", f"model:{model}", f"agent:{agent}")


def next_step(head: Head, routing: Routing) -> Step:
    """Decide the next step of one channel user."""
    expired = tuple(one.id for one in head.pending if _has_expired(one, head.now))
    pending = tuple(one for one in head.pending if one.id not in expired)
    if head.turn is None and not pending:
        more = len(head.pending) > MAX_TURN_MESSAGES
        return Release(due_at=head.now if more else None, expired=expired)
    agent = routing.agents.get(head.turn.agent if head.turn else pending[0].agent)
    if agent is None:  # taken out of the configuration while messages waited for it
        later = head.now + timedelta(seconds=UNKNOWN_AGENT_WAIT_S)
        return Release(due_at=later, expired=expired, trouble="unknown agent")
    closed = [head.gates.get(name) for name in gate_names(agent=agent.name, model=agent.model)]
    closed_until = max((until for until in closed if until and until > head.now), default=None)
    if closed_until is not None:
        return Release(due_at=closed_until, expired=expired)
    if head.turn is not None:
        return _go_on(head, head.turn, agent.name, routing)
    batch = next_batch(pending)
    if head.paused:
        return Record(agent=agent.name, batch=batch, expired=expired)
    close = _why_close(head, agent, routing.channel(head.who.channel))
    if close is None and _is_ready(head, agent.name, routing):
        return Send(agent=agent.name, batch=batch, expired=expired)
    return Prepare(agent=agent.name, batch=batch, expired=expired, close=close)


def _go_on(head: Head, turn: OpenTurn, agent: str, routing: Routing) -> Step:
    if turn.kind is TurnKind.HUMAN:
        return Record(agent=agent)
    if turn.doubtful_calls:
        return LookBack(agent=agent)
    if turn.round > 0 and _is_ready(head, agent, routing):
        return GoOn(agent=agent)
    if head.paused and turn.round == 0:
        return Record(agent=agent)
    return Send(agent=agent) if _is_ready(head, agent, routing) else Prepare(agent=agent)


def _is_ready(head: Head, agent: str, routing: Routing) -> bool:
    """Whether a call may go out at once: on the open conversation, or on none at all."""
    if not routing.channel(head.who.channel).persist:
        return True
    conversation = head.conversation
    return (
        conversation is not None
        and conversation.agent == agent
        and conversation.telnyx_id is not None
    )


def _why_close(head: Head, agent: Agent, policy: ChannelPolicy) -> str | None:
    """Say why a new turn must not go on with the open conversation."""
    conversation = head.conversation
    if conversation is None or not policy.persist:
        return None
    if conversation.turns >= agent.max_turns:
        return "rotated"
    last = conversation.last_turn_at
    if policy.idle_reset_s is not None and last is not None:
        rested_s = (head.now - last).total_seconds()
        return "idle" if rested_s >= policy.idle_reset_s else None
    return None


def _has_expired(message: PendingMessage, now: datetime) -> bool:
    return message.expires_at is not None and message.expires_at <= now
