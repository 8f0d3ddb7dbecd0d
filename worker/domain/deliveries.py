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

from worker.domain.ids import ChannelUserId, DeliveryId, TurnId
from worker.domain.messages import ChannelAddress
from worker.domain.states import DeliveryState
from worker.domain.timing import backoff_s

KEY_VALID_S = 23 * 3600.0
"""Providers remember an idempotency key for a day (Telnyx: 24 h); a repetition must come before."""

WEBHOOK_WAITS_S = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0)
"""After the first attempt, the second, ...; a day and a quarter of patience in all."""
WEBHOOK_MAX_AGE_S = 28 * 3600.0
"""A little more than their sum, so that each of them has its turn."""
WEBHOOK_KEY_VALID_S = 47 * 3600.0
"""We ask receivers to remember a `webhook-id` for two days."""


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
    traceparent: str | None = None
    """Of this attempt, as W3C has it, for the other side's spans; None = it is not traced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The channel has taken it."""

    provider_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotDelivered:
    """The channel surely has not taken it. `retry_after_s` None = our own backoff."""

    reason: str
    retry_after_s: float | None = None
    throttled: bool = False
    """Everybody's replies on this channel should rest a while: the other side has too much to do,
    or costs us threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The channel will never take it."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclear:
    """The channel may have taken it."""

    reason: str
    retry_after_s: float | None = None
    throttled: bool = False


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
    policy_name: str
    """Name of the channel, or of the route, that says how it is delivered."""
    turn_id: TurnId | None = None
    """Whose reply it is."""
    traceparent: str | None = None
    """Of the first message that it answers; None = that was not traced."""
    failing: bool = False
    """The endpoint has failed since its last success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """How patiently a channel's deliveries are tried."""

    takes_key: bool
    """The channel recognises a repetition by the idempotency key."""
    max_unclear_attempts: int = 1
    """Without a key: so many attempts of unclear outcome; 1 = at most once."""
    max_age_s: float = 3600.0
    """The head of the line blocks those behind it for at most this long."""
    waits_s: tuple[float, ...] | None = None
    """Between one attempt and the next; after the last of them it is given up. None = doubling
    without end."""
    key_valid_s: float = KEY_VALID_S
    """For so long the channel recognises a key, counted from the first attempt."""


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
        case NotDelivered() | Unclear() if _is_given_up(claimed, policy):
            # In doubt as well: under its key a person may repeat it without harm.
            return DeliveryState.FAILED
        case NotDelivered():
            return DeliveryState.PENDING
        case Unclear():
            again = _may_repeat(claimed, policy, begun=claimed.attempts + 1)
            return DeliveryState.SENDING if again else DeliveryState.UNKNOWN


def wait_after(
    claimed: ClaimedDelivery, outcome: NotDelivered | Unclear, policy: DeliveryPolicy
) -> float:
    """Give the wait before the next attempt: ours, or what the channel asks for if that is longer.

    Never beyond the age at which the reply stops holding up those behind it.
    """
    if policy.waits_s is None:
        own_s = backoff_s(claimed.attempts, first_s=5.0, limit_s=600.0)
    else:
        own_s = policy.waits_s[min(claimed.attempts, len(policy.waits_s) - 1)]
    age_s = (claimed.now - claimed.created_at).total_seconds()
    left_s = max(policy.max_age_s - age_s, 0.0)
    return min(max(own_s, outcome.retry_after_s or 0.0), left_s)


def _is_given_up(claimed: ClaimedDelivery, policy: DeliveryPolicy) -> bool:
    return policy.waits_s is not None and claimed.attempts >= len(policy.waits_s)


def _may_repeat(
    claimed: ClaimedDelivery, policy: DeliveryPolicy, *, begun: int | None = None
) -> bool:
    """Whether an attempt of unclear outcome may be followed by another."""
    if not policy.takes_key:
        return (claimed.attempts if begun is None else begun) < policy.max_unclear_attempts
    first = claimed.first_attempt_at or claimed.now
    return claimed.now - first < timedelta(seconds=policy.key_valid_s)
