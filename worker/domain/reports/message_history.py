"""The history of one message as Postgres has it, for a person on call.

The names of the fields are the keys of `worker why --json`, and most of them are columns, which
`worker.store.reports.message_history` selects by these names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from worker.domain.ids import (
    ChannelUserId,
    DeadLetterId,
    DeliveryId,
    MessageRowId,
    ReplyId,
    TurnId,
)
from worker.domain.people.drafts import HeldFor
from worker.domain.states import (
    DeadLetterKind,
    DeliveryState,
    MessageState,
    ReplySource,
    Resolution,
    ToolCallState,
    TurnState,
)
from worker.domain.turns.records import CallRecord, TurnRecord


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
    """It gets a turn of its own: after a refused turn, or replayed."""
    conflicts: int
    """How often the same id came with another body; the first body is kept."""
    turn_id: TurnId | None
    envelope: Mapping[str, object]
    """As it was accepted, with the text. Never log it."""
    before: int
    """Pending messages of the same channel user that come before it."""
    trace_id: str | None = None
    """OpenTelemetry's trace id; None = it was not traced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplySummary:
    """The turn's reply."""

    source: ReplySource
    text: str
    """Never log it."""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSummary:
    """The channel user, without the address."""

    id: ChannelUserId
    due_at: datetime | None
    """When the next step may start; None = there is nothing to do."""
    waiting_due_at: datetime | None
    """When a turn may take the pending messages."""
    next_agent: str | None
    """The agent of the first pending message that has not expired; None = none is pending."""
    surplus: bool
    """Enough other turns of the address or its group were due; this one waits behind others."""
    held_until: datetime | None
    """End of the lease of a living worker; None = no worker holds the user."""
    paused_at: datetime | None
    pause_reason: str | None
    """`loop`, `echo` or `hand_over`; None = an operator paused it, or nobody."""
    diverged_at: datetime | None
    erasing_since: datetime | None
    """Start of an erasure that is not finished; None = there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSummary(TurnRecord):
    """A turn, with how it ended."""

    state: TurnState
    agent_version: str
    landed: bool | None
    """Whether Telnyx's conversation has its user message; None = not known."""
    failure: str | None
    finished_at: datetime | None
    telnyx_conversation_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSummary(CallRecord):
    """One intended POST."""

    finished_at: datetime | None
    code: str | None
    reason: str | None
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
    """As the model wrote it: free text if no tool has that name."""
    state: ToolCallState
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """A row of the attempt log: a reading of Telnyx's side, or an action of an operator."""

    at: datetime
    event: str
    turn_id: TurnId | None
    """None = an action on the channel user."""
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySummary:
    """The sending of the reply by its channel; `attempts` are those begun."""

    id: DeliveryId
    state: DeliveryState
    way_out: str
    """The channel or route whose configuration the delivery follows."""
    attempts: int
    first_attempt_at: datetime | None
    due_at: datetime | None
    lease_until: datetime | None
    """Until when an attempt runs; None or past = none runs."""
    provider_id: str | None
    provider_status: str | None
    created_at: datetime
    finished_at: datetime | None
    ahead: int
    """Earlier replies to the same channel user that are not delivered yet."""
    gate: str | None = None
    """A closed gate that holds it back."""
    held_for: HeldFor | None = None
    """Why it is or was a draft; None = it never was."""
    reviewed_at: datetime | None = None
    """When a person decided about it."""
    counts_from: datetime | None = None
    """The start of its age, if that is not `created_at`; in the future = it waits for the hours."""
    reply_id: ReplyId | None = None
    """The number for `worker replies`; None = it is a later piece."""
    receipt: str | None = None
    """What the provider reported last of its way to the person."""
    receipt_error: str | None = None
    receipt_at: datetime | None = None

    @property
    def is_kept(self) -> bool:
        """Whether it ended as a row, because its channel has no delivery."""
        return self.state is DeliveryState.SENT and not self.attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterSummary:
    """A dead letter of the message or of its reply."""

    id: DeadLetterId
    kind: DeadLetterKind
    reason: str
    """A code of `worker.domain.reasons`, or the outcome of the message."""
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
    """`rate limit`, `status 401` or the like; of a webhook also `switched_off`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageHistory:
    """Everything about one message, at one time."""

    now: datetime
    """The database's time, as all times here."""
    workers: int
    """Processes whose heartbeat is fresh."""
    message: MessageSummary
    user: UserSummary
    turn: TurnSummary | None
    """The turn that took it; while it waits, the open turn before it."""
    calls: tuple[CallSummary, ...] = ()
    """The calls of `turn`, oldest first; tools and events likewise."""
    tools: tuple[ToolSummary, ...] = ()
    events: tuple[LoggedEvent, ...] = ()
    reply: ReplySummary | None = None
    """The reply of the message's own turn, even if `turn` is another one."""
    delivery: DeliverySummary | None = None
    dead_letters: tuple[DeadLetterSummary, ...] = ()
    gates: tuple[ClosedGate, ...] = ()
    calls_until: datetime | None = None
    """Until when the rate limit is used up; None or past = a call may start at once."""

    @property
    def is_behind(self) -> bool:
        """Whether `turn` is another one, which the message waits for."""
        return self.turn is not None and self.message.turn_id != self.turn.id
