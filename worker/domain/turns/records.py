"""What the store knows of an open turn: lease, calls, tool calls, conversation."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from worker.domain.ids import CallId, ChannelUserId, ConversationId, TelnyxConversationId, TurnId
from worker.domain.messages import ChannelAddress, PendingMessage
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
class Snapshot:
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
