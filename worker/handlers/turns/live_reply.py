"""Publishes a reply while the model writes it, for frontends that show it as it grows."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from worker.channels.live import LiveReplies, LiveReply, topic
from worker.domain.states import DeliveryState, ReplySource
from worker.domain.turns.claim import Claimed
from worker.domain.turns.plan import GiveUp, Plan, Reply

_SHOWN = frozenset({DeliveryState.PENDING, DeliveryState.SENT})


@dataclass(frozen=True, kw_only=True)
class PublishLiveReply:
    """Publishes the text of agents that stream; the reply that counts is the stored one.

    Attempts are numbered over all calls of a turn, so that a frontend knows the newer text.
    """

    live: LiveReplies | None
    """None = no agent streams."""
    namespace: UUID

    def sink(self, claimed: Claimed) -> Callable[[str], None] | None:
        """Return the function that takes the pieces of the next call; None = nothing streams."""
        call = self._call(claimed)
        return call.text if call is not None else None

    def reset(self, claimed: Claimed) -> None:
        """Make frontends drop the text of this turn so far."""
        call = self._call(claimed)
        if call is not None:
            call.reset()

    def settled(self, claimed: Claimed, plan: Plan, state: DeliveryState | None) -> None:
        """Publish the outcome of a committed plan. `state`: of the reply's delivery."""
        text = _text_of(plan) if state in _SHOWN else None
        if text is None or (isinstance(plan, Reply) and plan.source is ReplySource.ADOPTED):
            self.reset(claimed)
        if text is not None and (call := self._call(claimed)) is not None:
            call.done(text)

    def _call(self, claimed: Claimed) -> LiveReply | None:
        if self.live is None or not claimed.agent.stream:
            return None
        # The call of a committed intent is not among the turn's calls yet.
        earlier = len(claimed.turn.calls)
        attempt = earlier if claimed.intent is not None else max(earlier - 1, 0)
        name = topic(self.namespace, claimed.who)
        return LiveReply(self.live, name, turn=claimed.turn.id, attempt=attempt)


def _text_of(plan: Plan) -> str | None:
    match plan:
        case Reply():
            return plan.text
        case GiveUp():
            return plan.fallback_text
        case _:
            return None
