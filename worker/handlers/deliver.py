"""Delivering replies: in order per channel user, the attempt committed before it is made."""

from collections.abc import Mapping
from dataclasses import dataclass

from worker.channels.port import Channel
from worker.domain.agents import Routing
from worker.domain.deliveries import (
    ClaimedDelivery,
    DeliveryOutcome,
    DeliveryPolicy,
    NotDelivered,
    Sent,
    Unclear,
    refusal_of,
    state_after,
)
from worker.domain.errors import StaleLeaseError
from worker.domain.ids import ChannelUserId
from worker.domain.settle import backoff_s
from worker.domain.states import DeliveryState
from worker.observability import log
from worker.store.deliveries import DeliveryStore

MAX_DELIVERIES = 50
"""A task ends after so many, and the rest is another task's."""


@dataclass(frozen=True, kw_only=True)
class DeliverReplies:
    """The use case behind the task `replies.deliver`."""

    store: DeliveryStore
    routing: Routing
    channels: Mapping[str, Channel]
    """By channel name; those that are not named here keep their replies in Postgres."""

    def __call__(self, user_id: ChannelUserId) -> int:
        """Deliver what is due of this user, oldest first; gives the number of attempts."""
        for attempts in range(MAX_DELIVERIES):
            claimed = self.store.claim(user_id)
            if claimed is None:
                return attempts
            try:
                self._attempt(claimed)
            except StaleLeaseError:
                log.warning("delivery.stale", delivery=claimed.reply.delivery_id)
                return attempts
        return MAX_DELIVERIES

    def _attempt(self, claimed: ClaimedDelivery) -> None:
        channel = self.channels.get(claimed.reply.to.channel)
        policy = self._policy(claimed, channel)
        refusal = refusal_of(claimed, policy)
        if channel is None or refusal is not None:
            self.store.end(claimed, refusal or DeliveryState.SENT)
            return
        outcome = _deliver(channel, claimed)
        state = state_after(claimed, outcome, policy)
        self.store.end(
            claimed,
            state,
            wait_s=_wait_s(claimed, outcome),
            provider_id=outcome.provider_id if isinstance(outcome, Sent) else None,
            provider_status=None if isinstance(outcome, Sent) else outcome.reason,
        )
        log.info("delivery.ended", delivery=claimed.reply.delivery_id, state=state)

    def _policy(self, claimed: ClaimedDelivery, channel: Channel | None) -> DeliveryPolicy:
        configured = self.routing.channel(claimed.reply.to.channel)
        return DeliveryPolicy(
            takes_key=channel is not None and channel.takes_key,
            max_unclear_attempts=configured.max_unclear_deliveries,
            max_age_s=configured.delivery_max_age_s,
        )


def _deliver(channel: Channel, claimed: ClaimedDelivery) -> DeliveryOutcome:
    try:
        return channel.deliver(claimed.reply)
    except Exception as error:  # noqa: BLE001 # a channel of a third party; its text may quote
        log.error("delivery.failed", delivery=claimed.reply.delivery_id, error=type(error).__name__)
        return Unclear(reason=type(error).__name__)


def _wait_s(claimed: ClaimedDelivery, outcome: DeliveryOutcome) -> float:
    asked = outcome.retry_after_s if isinstance(outcome, NotDelivered) else None
    return max(asked or 0.0, backoff_s(claimed.attempts, first_s=5.0, limit_s=600.0))
