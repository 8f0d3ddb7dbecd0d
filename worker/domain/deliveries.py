"""Handing a reply to its channel: what is handed over, what comes of it, and when to try again.

Outcomes of one attempt:
    Sent          the channel has it
    NotDelivered  the channel surely does not have it: again later
    Rejected      the channel says no for good
    Unclear       the channel may have it
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from worker.domain.ids import ChannelUserId, DeliveryId
from worker.domain.messages import ChannelAddress
from worker.domain.states import DeliveryState

KEY_VALID_S = 23 * 3600.0
"""Providers remember an idempotency key for a day (Telnyx: 24 h); a repetition must come before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingReply:
    """A reply on its way to a channel user."""

    delivery_id: DeliveryId
    user_id: ChannelUserId
    idempotency_key: UUID
    """The same on each attempt."""
    to: ChannelAddress
    """`recipient` is our own address, so where the reply comes from."""
    text: str
    message_ids: tuple[str, ...]
    """The channel's ids of the messages that it answers, in order."""
    metadata: Mapping[str, str]
    """As the producer gave it with the newest of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The channel has taken it."""

    provider_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotDelivered:
    """The channel surely has not taken it. `retry_after_s` None = our own backoff."""

    reason: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The channel will never take it."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclear:
    """The channel may have taken it."""

    reason: str


DeliveryOutcome: TypeAlias = Sent | NotDelivered | Rejected | Unclear


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedDelivery:
    """The oldest undone delivery of a channel user, before the attempt's decision."""

    reply: OutgoingReply
    token: int
    attempts: int
    """Attempts already begun."""
    first_attempt_at: datetime | None
    interrupted: bool
    """The last attempt was begun and never ended: its worker died, and it may have been taken."""
    created_at: datetime
    now: datetime
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """How patiently a channel's deliveries are tried."""

    takes_key: bool
    """The channel recognises a repetition by the idempotency key."""
    max_unclear_attempts: int = 1
    """Without a key: so many attempts of unclear outcome; 1 = at most once."""
    max_age_s: float = 3600.0
    """The head of the line blocks those behind it for at most this long."""


def refusal_of(claimed: ClaimedDelivery, policy: DeliveryPolicy) -> DeliveryState | None:
    """Decide how a delivery ends without another attempt; None = it may be tried."""
    if claimed.paused:
        return DeliveryState.WITHHELD
    if claimed.interrupted and not _may_repeat(claimed, policy):
        return DeliveryState.UNKNOWN
    if claimed.now - claimed.created_at > timedelta(seconds=policy.max_age_s):
        return DeliveryState.EXPIRED
    return None


def state_after(
    claimed: ClaimedDelivery, outcome: DeliveryOutcome, policy: DeliveryPolicy
) -> DeliveryState:
    """Decide the state after an attempt; `pending` = it is tried again."""
    match outcome:
        case Sent():
            return DeliveryState.SENT
        case Rejected():
            return DeliveryState.FAILED
        case NotDelivered():
            return DeliveryState.PENDING
        case Unclear():
            again = _may_repeat(claimed, policy, begun=claimed.attempts + 1)
            return DeliveryState.SENDING if again else DeliveryState.UNKNOWN


def _may_repeat(
    claimed: ClaimedDelivery, policy: DeliveryPolicy, *, begun: int | None = None
) -> bool:
    """Whether an attempt of unclear outcome may be followed by another."""
    if not policy.takes_key:
        return (claimed.attempts if begun is None else begun) < policy.max_unclear_attempts
    first = claimed.first_attempt_at or claimed.now
    return claimed.now - first < timedelta(seconds=KEY_VALID_S)
