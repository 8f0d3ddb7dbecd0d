"""Ends a turn's work: commits the plan, then wakes the delivery of its reply."""

from collections.abc import Callable
from dataclasses import dataclass

from worker.domain.ids import ChannelUserId
from worker.domain.states import DeliveryState
from worker.domain.turns.calls import CallOutcome
from worker.domain.turns.claim import Claimed, Settled
from worker.domain.turns.plan import Plan
from worker.handlers.telemetry.turns import record_settled
from worker.handlers.turns.live_reply import PublishLiveReply
from worker.store.turns.turns import TurnStore


@dataclass(frozen=True, kw_only=True)
class Settle:
    """Commits a plan; a reply that is to be delivered gets its wake after the commit."""

    turns: TurnStore
    wake_delivery: Callable[[ChannelUserId], None]
    """Publishes a hint, which may get lost: the sweeper finds the delivery then."""
    live_reply: PublishLiveReply

    def __call__(self, claimed: Claimed, outcome: CallOutcome | None, plan: Plan) -> Settled:
        """Commit the outcome of a call (None = there was none) and the plan that follows.

        Raises `StaleLeaseError`: nothing was written.
        """
        settled = self.turns.settle(claimed, outcome, plan)
        # After the commit: a plan that was not written must not be reported or published.
        record_settled(claimed, outcome, plan)
        if settled.delivery is DeliveryState.PENDING:
            self.wake_delivery(claimed.lease.user_id)
        self.live_reply.settled(claimed, plan, settled.delivery)
        return settled
