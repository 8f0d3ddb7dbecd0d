"""Ending a turn's work: commit it, then tell whoever delivers."""

from collections.abc import Callable
from dataclasses import dataclass

from worker.domain.calls import CallOutcome
from worker.domain.ids import ChannelUserId
from worker.domain.settle import Diverge, Plan
from worker.domain.states import DeliveryState
from worker.handlers.showing import ShowReply
from worker.observability import log
from worker.store.claims import Claimed
from worker.store.turns import TurnStore


@dataclass(frozen=True, kw_only=True)
class Settle:
    """Commits a plan; a reply that is to be delivered is announced after the commit."""

    turns: TurnStore
    wake_delivery: Callable[[ChannelUserId], None]
    """A hint that may get lost: the sweeper is the net."""
    show: ShowReply

    def __call__(self, claimed: Claimed, outcome: CallOutcome | None, plan: Plan) -> None:
        """Commit how a call ended (None = there was none) and what follows.

        Raises `StaleLeaseError`: nothing was written.
        """
        state = self.turns.settle(claimed, outcome, plan)
        facts = {
            "user": claimed.lease.user_id,
            "turn": claimed.turn.id,
            "call": claimed.intent and claimed.intent.call_id,
            "outcome": outcome and type(outcome).__name__,
            "plan": type(plan).__name__,
        }
        if isinstance(plan, Diverge):
            log.error("turn.settled", **facts, reason=plan.reason)
        else:
            log.info("turn.settled", **facts)
        if state is DeliveryState.PENDING:
            self.wake_delivery(claimed.lease.user_id)
        self.show.settled(claimed, plan, state)
