"""The whole life of one message, as Postgres holds it: what a person on call looks at."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from worker.domain.ids import (
    CallId,
    ChannelUserId,
    ConversationId,
    DeadLetterId,
    DeliveryId,
    MessageRowId,
    TurnId,
)
from worker.domain.states import (
    CallState,
    DeadLetterKind,
    DeliveryState,
    MessageState,
    ReplySource,
    Resolution,
    ToolCallState,
    TurnKind,
    TurnState,
)
from worker.domain.turns.calls import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSummary:
    """The message itself."""

    id: MessageRowId
    message_id: str
    """The channel's own id."""
    channel: str
    agent: str
    state: MessageState
    outcome: str | None
    accepted_at: datetime
    finished_at: datetime | None
    expires_at: datetime | None
    late: bool
    """It was sent before something that had been taken already."""
    alone: bool
    """It goes in a turn of its own: after a refused turn, or replayed."""
    conflicts: int
    """So often came the same id with another body; the first stands."""
    turn_id: TurnId | None
    envelope: Mapping[str, object]
    """As it was accepted, with what was written. Never for a log."""
    before: int
    """Messages of the same person that wait, and come before it."""
    trace_id: str | None = None
    """OpenTelemetry's; None = it was not traced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSummary:
    """The channel user, without who it is."""

    id: ChannelUserId
    due_at: datetime | None
    """When the next step may start; None = there is nothing to do."""
    waiting_due_at: datetime | None
    """When the messages that no turn has taken may be."""
    next_agent: str | None
    """Whom the first message that waits, and has not expired, is for; None = none waits."""
    held_until: datetime | None
    """Until when a living worker may work on him; None = nobody does."""
    paused_at: datetime | None
    diverged_at: datetime | None
    erasing_since: datetime | None
    """Since when he is being erased, which has not been finished; None = he is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSummary:
    """A turn."""

    id: TurnId
    kind: TurnKind
    state: TurnState
    agent: str
    agent_version: str
    messages: int
    landed: bool | None
    """Whether it is a user message of Telnyx's conversation; None = not known."""
    failure: str | None
    opened_at: datetime
    finished_at: datetime | None
    conversation_id: ConversationId | None
    telnyx_conversation_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSummary:
    """One intended POST."""

    id: CallId
    round: int
    attempt: int
    """Counts the calls of one round from 0."""
    state: CallState
    intent_at: datetime
    finished_at: datetime | None
    status: int | None
    code: str | None
    reason: str | None
    fault: Fault | None
    """Of a refused call."""
    request_id: str | None
    response_id: str | None
    input_tokens: int | None
    output_tokens: int | None
    instructions_sent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSummary:
    """A function that the model asked for."""

    round: int
    call_id: str
    name: str
    """As the model wrote it: its own words, where no tool has that name."""
    state: ToolCallState
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """Something out of the ordinary: what was read at Telnyx, or what an operator did."""

    at: datetime
    event: str
    turn_id: TurnId | None
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplySummary:
    """The turn's reply."""

    source: ReplySource
    text: str
    """Never for a log."""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySummary:
    """The handing of the reply to its channel."""

    id: DeliveryId
    state: DeliveryState
    way_out: str
    """Name of the channel, or of the route, that says how it is delivered."""
    attempts: int
    """Attempts begun."""
    first_attempt_at: datetime | None
    due_at: datetime | None
    lease_until: datetime | None
    """Until when an attempt is under way; None or past = none is."""
    provider_id: str | None
    provider_status: str | None
    created_at: datetime
    finished_at: datetime | None
    ahead: int
    """Earlier replies to the same person that are not out yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterSummary:
    """A dead letter of the message or of its reply."""

    id: DeadLetterId
    kind: DeadLetterKind
    reason: str
    detail: str
    created_at: datetime
    resolution: Resolution | None
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedGate:
    """A gate that no claim passes before `closed_until`."""

    name: str
    closed_until: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageHistory:
    """Everything about one message, of one moment."""

    now: datetime
    """The database's time, as all times here."""
    workers: int
    """Processes whose heartbeat is fresh."""
    message: MessageSummary
    user: UserSummary
    turn: TurnSummary | None
    """The turn that took it; while it waits, the open turn before it."""
    calls: tuple[CallSummary, ...] = ()
    """Of that turn, oldest first; so are the others."""
    tools: tuple[ToolSummary, ...] = ()
    events: tuple[LoggedEvent, ...] = ()
    reply: ReplySummary | None = None
    """Of the message's own turn."""
    delivery: DeliverySummary | None = None
    letters: tuple[DeadLetterSummary, ...] = ()
    gates: tuple[ClosedGate, ...] = ()
    calls_until: datetime | None = None
    """Up to when every moment for a call is taken; None or past = a call may go at once."""

    @property
    def is_behind(self) -> bool:
        """Whether `turn` is another one, which it waits for."""
        return self.turn is not None and self.message.turn_id != self.turn.id
