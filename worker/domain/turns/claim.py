"""A claim of a channel user: what a worker holds, and what it is about to do."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from worker.domain.ids import CallId, MessageRowId
from worker.domain.messages import Accepted, ChannelAddress
from worker.domain.routing import Agent, ChannelPolicy
from worker.domain.states import DeliveryState
from worker.domain.turns.next_step import GoOn, Prepare, Reconcile, Record, Send
from worker.domain.turns.records import Lease, OpenConversation, OpenTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """The committed note that a call is about to be made."""

    call_id: CallId
    round: int
    attempt: int
    """Counts the calls of one round from 0."""
    instructions: str | None
    """To go with the call; None = the thread knows them."""


Work: TypeAlias = Send | Record | Prepare | Reconcile | GoOn
"""The steps that need the lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotClaimed:
    """Somebody else works on the user, or nothing is due; `due_in_s` None = nothing waits."""

    due_in_s: float | None = None
    trouble: str | None = None
    """What an operator has to mend before it goes on."""
    expired: tuple[MessageRowId, ...] = ()
    """What ended here, unanswered, because its time was over."""
    over_budget: tuple[MessageRowId, ...] = ()
    """What ended here because its agent's budget of the day is used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """The user is ours until the lease ends; `step` says what the open turn needs."""

    lease: Lease
    who: ChannelAddress
    now: datetime
    """The database's time of the claim."""
    agent: Agent
    channel: ChannelPolicy
    delivery_policy: ChannelPolicy
    """What says how the reply is delivered: the channel, or the route that its messages name."""
    turn: OpenTurn
    conversation: OpenConversation | None
    """None = stateless, or not prepared yet."""
    paused: bool
    """A person had taken over when this was claimed."""
    step: Work
    intent: Intent | None
    """None where the step is not `Send`."""
    gates: tuple[str, ...]
    """Gates that were closed until lately; a success opens them for good."""
    claimed_at_s: float
    """Of this machine's clock, to say how long the work took."""

    @property
    def open_s(self) -> float:
        """Age of the turn."""
        return (self.now - self.turn.opened_at).total_seconds()

    @property
    def committed_intent(self) -> Intent:
        """The intent, which must be there before a byte is sent."""
        if self.intent is None:
            raise ValueError("no intent was committed")
        return self.intent


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How things stand after a turn's work was committed."""

    delivery: DeliveryState | None
    """What the delivery of the reply begins with; None = there is no reply."""
    due_in_s: float | None
    """When the channel user's next step may start; None = nothing is to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A message that was accepted, and whose turn may be sent at once."""

    accepted: Accepted
    claimed: Claimed
