"""Ends a turn's work: commits the plan, publishes the live reply, wakes the delivery."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from worker.channels.live import LiveReplies, LiveReply, topic
from worker.domain.ids import ChannelUserId
from worker.domain.people.policies import Approve
from worker.domain.states import DeliveryState, ReplySource
from worker.domain.turns.calls import CallOutcome
from worker.domain.turns.claim import Claimed, Settled
from worker.domain.turns.plan import GiveUp, Plan, Reply
from worker.handlers.telemetry.turns import record_handed_over, record_settled
from worker.store.turns.turns import TurnStore

_SHOWN = frozenset({DeliveryState.PENDING, DeliveryState.SENT})


@dataclass(frozen=True, kw_only=True)
class Settle:
    """Commits a plan; a reply that is to be delivered gets its wake after the commit.

    The text of agents that stream is published meanwhile; the reply that counts is the stored one.
    Attempts are numbered over all calls of a turn, so that a frontend knows the newer text.
    """

    turns: TurnStore
    wake_delivery: Callable[[ChannelUserId], None]
    """Publishes a hint, which may get lost: the sweeper finds the delivery then."""
    live: LiveReplies | None
    """None = no agent streams."""
    namespace: UUID

    def __call__(self, claimed: Claimed, outcome: CallOutcome | None, plan: Plan) -> Settled:
        """Commit the outcome of a call (None = none) and the plan. Raises `StaleLeaseError`."""
        user_id = claimed.lease.user_id
        settled = self.turns.settle(claimed, outcome, plan)
        # After the commit: a plan that was not written must not be reported or published.
        record_settled(claimed, outcome, plan)
        if handed_over := settled.hand_over or claimed.hand_over:
            record_handed_over(user_id, claimed.agent.name, handed_over, claimed.turn.id)
        if settled.delivery is DeliveryState.PENDING or handed_over:
            self.wake_delivery(user_id)
        text = None
        if settled.delivery in _SHOWN and isinstance(plan, Reply | GiveUp):
            text = plan.text if isinstance(plan, Reply) else plan.fallback_text
        if text is None or (isinstance(plan, Reply) and plan.source is ReplySource.ADOPTED):
            self.reset_live(claimed)
        if text is not None and (call := self._live_reply(claimed)):
            call.done(text)
        return settled

    def live_sink(self, claimed: Claimed) -> Callable[[str | None], None] | None:
        """Return the function that takes the pieces of the next call; None = nothing streams."""
        call = self._live_reply(claimed)
        if call is None:
            return None
        return lambda piece: call.reset() if piece is None else call.text(piece)

    def reset_live(self, claimed: Claimed) -> None:
        """Make frontends drop the text of this turn so far."""
        if call := self._live_reply(claimed):
            call.reset()

    def _live_reply(self, claimed: Claimed) -> LiveReply | None:
        # A draft must not be read before a person has.
        if self.live is None or not claimed.agent.stream or claimed.approve is not Approve.NONE:
            return None
        # The call of a committed intent is not among the turn's calls yet.
        earlier = len(claimed.turn.calls)
        attempt = earlier if claimed.intent is not None else max(earlier - 1, 0)
        name = topic(self.namespace, claimed.who)
        return LiveReply(self.live, name, turn=claimed.turn.id, attempt=attempt)
