"""Ending a turn's work: commit it, then tell whoever delivers."""

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
    """Commits a plan; a reply that is to be delivered is announced after the commit."""

    turns: TurnStore
    wake_delivery: Callable[[ChannelUserId], None]
    """A hint that may get lost: the sweeper is the net."""
    live_reply: PublishLiveReply

    def __call__(self, claimed: Claimed, outcome: CallOutcome | None, plan: Plan) -> Settled:
        """Commit how a call ended (None = there was none) and what follows.

        Raises `StaleLeaseError`: nothing was written.
        """
        settled = self.turns.settle(claimed, outcome, plan)
        record_settled(claimed, outcome, plan)
        if settled.delivery is DeliveryState.PENDING:
            self.wake_delivery(claimed.lease.user_id)
        self.live_reply.settled(claimed, plan, settled.delivery)
        return settled
