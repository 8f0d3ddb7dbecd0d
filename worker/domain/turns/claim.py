"""The claim of a channel user by a worker: what it holds, and its next step."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from worker.domain.ids import CallId, MessageRowId, TelnyxConversationId, TurnId
from worker.domain.messages import ChannelAddress
from worker.domain.people.drafts import ASK_FOR_REVIEW
from worker.domain.people.hand_over import HandOverReason
from worker.domain.people.policies import Approve
from worker.domain.routing import Agent, ChannelPolicy, Routing
from worker.domain.states import DeliveryState
from worker.domain.turns.next_step import Release, Work
from worker.domain.turns.records import Lease, OpenConversation, OpenTurn, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """The committed note that a call is about to be made."""

    call_id: CallId
    round: int
    attempt: int
    """Counts the calls of one round from 0."""
    instructions: str | None
    """Sent with the call; None = the thread has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotClaimed:
    """Another worker has the user, or nothing is due; `due_in_s` None = nothing waits."""

    due_in_s: float | None = None
    release: Release | None = None
    """The step, with the messages that ended here; None = the user was not read."""
    agent: str = ""
    """Whose message is the next one; empty = none waits."""
    hand_over: HandOverReason | None = None
    """Why the user was handed over to our staff all the same; None = they were not."""
    loop: str | None = None
    """The rule by which the loop breaker has paused the user; None = it has not."""


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
    """How the reply is delivered: that of the channel, or of the route its messages name."""
    turn: OpenTurn
    conversation: OpenConversation | None
    """None = stateless, or not prepared yet."""
    used: frozenset[TelnyxConversationId] = frozenset()
    """Read if `conversation` has no Telnyx id: all that the user ever had. Closed ones stay so."""
    is_new: bool = False
    """Whether the channel user was created with this claim."""
    paused: bool
    """A person had taken over when this was claimed, or `loop` is set."""
    hand_over: HandOverReason | None = None
    """Why the user was handed over to our staff with this claim; None = they were not."""
    loop: str | None = None
    """The rule by which the loop breaker has paused the user meanwhile; None = it has not."""
    step: Work
    intent: Intent | None
    """None if the step is not `Send`."""
    gates: tuple[str, ...]
    """Gates that were closed until lately; a success deletes their rows."""
    claimed_at_s: float
    """This machine's clock at the claim, to measure how long the work took."""

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        routing: Routing,
        step: Work,
        turn: OpenTurn,
        intent: Intent | None,
        *,
        at_s: float,
    ) -> Self:
        """Return the claim of the user of a snapshot; `at_s` is this machine's clock."""
        agent = routing.agent(step.agent)
        return cls(
            lease=snapshot.lease,
            who=snapshot.who,
            now=snapshot.now,
            agent=agent,
            channel=routing.channel(snapshot.who.channel),
            delivery_policy=routing.delivery_policy(snapshot.who.channel, turn.reply_to),
            turn=turn,
            conversation=snapshot.conversation,
            paused=snapshot.paused,
            hand_over=snapshot.hand_over,
            loop=snapshot.loop,
            step=step,
            intent=intent,
            gates=tuple(name for name in agent.gates if name in snapshot.gates),
            claimed_at_s=at_s,
        )

    @property
    def approve(self) -> Approve:
        """Which replies wait for a person."""
        return self.channel.approve or self.agent.approve

    @property
    def tools(self) -> tuple[str, ...]:
        """The names of the tools that the model may use."""
        asks = self.approve is Approve.LOW_CONFIDENCE
        return (*self.agent.tools, ASK_FOR_REVIEW) if asks else self.agent.tools

    @property
    def open_s(self) -> float:
        """The age of the turn, in seconds."""
        return (self.now - self.turn.opened_at).total_seconds()

    @property
    def committed_intent(self) -> Intent:
        """The intent, which must be committed before a byte is sent."""
        if self.intent is None:
            raise ValueError("no intent was committed")
        return self.intent


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The state after a turn's work was committed."""

    turn: TurnId
    messages: tuple[MessageRowId, ...]
    """Those that this claim put into the turn; empty if it was open before."""
    result: str | None
    """How its messages ended, see `worker.domain.states`; None = the turn goes on."""
    delivery: DeliveryState | None
    """The first state of the reply's delivery; None = there is no reply."""
    hand_over: HandOverReason | None = None
    """Why the user was handed over to our staff; None = they were not."""
    due_in_s: float | None
    """Seconds until the channel user's next step may start; None = there is none."""


def instructions_for(
    agent: Agent, conversation: OpenConversation | None, turn: OpenTurn
) -> str | None:
    """Return the instructions to send with a call; None = none, or the thread has them.

    Telnyx keeps them with the conversation; a stateless call carries them always.
    """
    known = conversation.instructions_hash if conversation else None
    if not agent.instructions or known == agent.instructions_hash or turn.is_in_thread:
        return None
    return agent.instructions
