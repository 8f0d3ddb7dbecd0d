"""Ending a turn's work: commit it, then tell whoever delivers."""

from collections.abc import Callable
from dataclasses import dataclass, field

from worker.domain.ids import ChannelUserId
from worker.domain.states import DeliveryState, ReplySource
from worker.domain.turns.calls import CallOutcome
from worker.domain.turns.claim import Claimed, Settled
from worker.domain.turns.plan import Plan, Reply
from worker.handlers.telemetry.telling import tell_settled
from worker.handlers.telemetry.turns import note_settled
from worker.handlers.turns.live_reply import PublishLiveReply
from worker.observability.metrics import Meters
from worker.observability.traces import Tracer
from worker.store.turns.turns import TurnStore


@dataclass(frozen=True, kw_only=True)
class Settle:
    """Commits a plan; a reply that is to be delivered is announced after the commit."""

    turns: TurnStore
    wake_delivery: Callable[[ChannelUserId], None]
    """A hint that may get lost: the sweeper is the net."""
    show: PublishLiveReply
    meters: Meters = field(default_factory=Meters)
    tracer: Tracer = field(default_factory=Tracer)

    def __call__(self, claimed: Claimed, outcome: CallOutcome | None, plan: Plan) -> Settled:
        """Commit how a call ended (None = there was none) and what follows.

        Raises `StaleLeaseError`: nothing was written.
        """
        settled = self.turns.settle(claimed, outcome, plan)
        self.meters.settled(
            claimed.agent.name, _name_of(plan), type(outcome).__name__ if outcome else "none"
        )
        tell_settled(claimed, outcome, plan)
        note_settled(self.tracer, outcome, plan)
        if settled.delivery is DeliveryState.PENDING:
            self.wake_delivery(claimed.lease.user_id)
        self.show.settled(claimed, plan, settled.delivery)
        return settled


def _name_of(plan: Plan) -> str:
    """Name a plan in metrics; a reply that was found in the thread is a plan of its own."""
    adopted = isinstance(plan, Reply) and plan.source is ReplySource.ADOPTED
    return "Adopted" if adopted else type(plan).__name__
