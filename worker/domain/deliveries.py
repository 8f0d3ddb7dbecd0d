"""Deliveries: the reply that a channel gets, the outcomes of an attempt, and when to try again."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from worker.domain.email.mail import SentMail
from worker.domain.ids import ChannelUserId, DeadLetterId, DeliveryId, TurnId
from worker.domain.messages import ChannelAddress
from worker.domain.people.hand_over import HandOverNotice
from worker.domain.people.hours import next_opening
from worker.domain.routing import ChannelPolicy
from worker.domain.states import DeliveryState
from worker.domain.timing import backoff_s
from worker.domain.ways_out import WebhookDelivery

KEY_VALID_S = 23 * 3600.0
"""Providers remember an idempotency key for a day (Telnyx: 24 h); a retry must come earlier."""

WEBHOOK_WAITS_S = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0)
"""Waits after the first attempt, the second and so on; 28 hours in all. After the last one the
delivery has failed. On other channels the waits double, without an end."""
WEBHOOK_MAX_AGE_S = 28 * 3600.0
"""A little more than their sum, so that every attempt is made."""
WEBHOOK_KEY_VALID_S = 47 * 3600.0
"""We ask receivers to remember a `webhook-id` for two days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What its producer is told of a message that became a dead letter."""

    dead_letter: DeadLetterId
    reason: str
    detail: str
    queue: str
    task_id: UUID | None
    names: Mapping[str, str] | None
    """`channel`, `recipient`, `user`, `thread` and `message_id`, as the producer gave them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingReply:
    """A reply on its way to a channel user."""

    delivery_id: DeliveryId
    user_id: ChannelUserId
    idempotency_key: UUID
    """The same on each attempt."""
    to: ChannelAddress
    """The channel user. `recipient` is our own address, which the reply comes from."""
    text: str
    message_ids: tuple[str, ...]
    """The channel's ids of the answered messages, in order."""
    metadata: Mapping[str, str]
    """The producer's metadata of the newest of them."""
    traceparent: str | None = None
    """W3C trace context of this attempt, for the receiver's spans; None = not traced."""
    request: str | None = None
    """The body that every attempt sends; None = it is not made yet, or at each attempt."""
    refusal: Refusal | None = None
    """None = it is a reply. Otherwise it tells a producer of a refusal, and has no text."""
    disclosure: str | None = None
    """Goes along: that an AI writes; None = nothing does."""
    hand_over: HandOverNotice | None = None
    """Not None = it tells our staff of a hand-over, and has no text."""
    created_at: datetime | None = None
    """When it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One message of a reply; the first has the delivery's own key."""

    key: UUID
    request: str
    """What every attempt sends."""
    mail: SentMail | None = None
    """None = it is no mail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The channel has the reply."""

    provider_id: str | None = None
    parts: int | None = None
    """The number of text messages that it counts as; None = it is none."""
    message_id: str | None = None
    """The Message-ID that the server has given a mail; None = it has left ours."""


PauseScope: TypeAlias = Literal["channel", "sender"]
"""All replies of a channel, or those that go out from the same address of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Other replies would fail as well, so they wait without an attempt."""

    scope: PauseScope
    seconds: float | None
    """None = until midnight UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failure:
    reason: str
    retry_after_s: float | None = None
    """None = our own backoff."""
    throttled: bool = False
    """All replies on this channel should pause: the receiver is overloaded, or it blocks our
    threads."""
    pause: Pause | None = None
    """A gate of Telnyx's or SMTP's channels closes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotDelivered(_Failure):
    """The channel certainly does not have it: another attempt may follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(_Failure):
    """The channel will never accept it. Reason `opted_out`: the provider blocks the person."""

    gone: bool = False
    """Nobody has this address: it gets no further reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclear(_Failure):
    """The channel may have it."""


DeliveryOutcome: TypeAlias = Sent | NotDelivered | Rejected | Unclear


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedDelivery:
    """The oldest unfinished delivery of a channel user, before it is decided whether to try."""

    reply: OutgoingReply
    token: int
    attempts: int
    """Attempts already begun."""
    first_attempt_at: datetime | None
    interrupted: bool
    """The last attempt never ended: its worker died, and the channel may have the reply."""
    created_at: datetime
    counts_from: datetime
    """The start of its age."""
    now: datetime
    paused: bool
    policy_name: str
    """Name of the channel or route whose policy applies."""
    agent: str | None = None
    """Whose model has written it; None = it has no text of a model, or its channel does not say."""
    active_at: datetime | None = None
    """When the person's newest message came, or the first piece of this reply left; None = never,
    or its channel has no hours."""
    answered_later: bool = False
    """The person has written messages since those that this reply answers."""
    told: bool = False
    """The person was told in this conversation that an AI writes."""
    opted_out: bool = False
    """The person has opted out, and this delivery is not exempt."""
    turn_id: TurnId | None = None
    """The turn that the reply belongs to."""
    traceparent: str | None = None
    """W3C trace context of the first answered message; None = not traced."""
    may_have_arrived: bool = False
    """The last attempt has noted that the channel may have it: see `TwoPhaseChannel`."""
    failing: bool = False
    """The endpoint has failed since its last success."""


def refusal_of(
    claimed: ClaimedDelivery, policy: ChannelPolicy, *, takes_key: bool
) -> DeliveryState | None:
    """Return the state of a delivery that gets no further attempt; None = it may be tried.

    `takes_key`, here and below: the channel recognises a retry by the idempotency key.
    """
    if claimed.opted_out:
        return DeliveryState.UNKNOWN if claimed.interrupted else DeliveryState.OPTED_OUT
    if claimed.paused:
        return DeliveryState.WITHHELD
    if claimed.interrupted and not _may_repeat(claimed, policy, takes_key=takes_key):
        return DeliveryState.UNKNOWN
    if claimed.now - claimed.counts_from > timedelta(seconds=policy.delivery_max_age_s):
        return DeliveryState.EXPIRED
    if _is_overtaken(claimed, policy):
        return DeliveryState.SUPERSEDED
    return None


def _is_overtaken(claimed: ClaimedDelivery, policy: ChannelPolicy) -> bool:
    """Whether a reply that has waited for long has been overtaken by newer messages."""
    if policy.hours is None or not claimed.answered_later or claimed.interrupted:
        return False
    return claimed.now - claimed.created_at > timedelta(seconds=policy.hours.recheck_after_s)


def opening(
    claimed: ClaimedDelivery, policy: ChannelPolicy, zones: Callable[[str], Collection[ZoneInfo]]
) -> datetime | None:
    """Return when a reply may go out, by the `zones` of the person's address; None = now.

    It may while the person's newest message is young: they are awake, and wait for it. Nor does one
    wait that the channel may have already.
    """
    hours = policy.hours
    if hours is None or claimed.interrupted:
        return None
    late = timedelta(seconds=hours.late_after_s)
    if claimed.active_at is not None and claimed.now - claimed.active_at <= late:
        return None
    opens = next_opening(claimed.now, hours, zones(claimed.reply.to.address))
    return opens if opens > claimed.now else None


def state_after(
    claimed: ClaimedDelivery, outcome: DeliveryOutcome, policy: ChannelPolicy, *, takes_key: bool
) -> DeliveryState:
    """Return the state after an attempt; `pending` = it is tried again."""
    is_webhook = isinstance(policy.delivery, WebhookDelivery)
    match outcome:
        case Sent():
            return DeliveryState.SENT
        case Rejected(reason=DeliveryState.OPTED_OUT):
            return DeliveryState.OPTED_OUT
        case Rejected():
            return DeliveryState.FAILED
        case NotDelivered() | Unclear() if is_webhook and claimed.attempts >= len(WEBHOOK_WAITS_S):
            # `failed` even if unclear: thanks to the key an operator can retry it without harm.
            return DeliveryState.FAILED
        case NotDelivered() if claimed.interrupted and takes_key:
            # An attempt before this one may have arrived: that lasts as long as its key.
            return DeliveryState.SENDING
        case NotDelivered():
            return DeliveryState.PENDING
        case Unclear():
            begun = claimed.attempts + 1
            again = _may_repeat(claimed, policy, takes_key=takes_key, begun=begun)
            # It stays `sending`, not `pending`: the next attempt must know that this one may count.
            return DeliveryState.SENDING if again else DeliveryState.UNKNOWN


def wait_after(claimed: ClaimedDelivery, outcome: DeliveryOutcome, policy: ChannelPolicy) -> float:
    """Return the wait before the next attempt: ours, or the channel's if that is longer.

    It never exceeds the age at which the reply stops blocking the later ones.
    """
    if isinstance(outcome, Sent | Rejected):
        return 0.0
    own_s = backoff_s(claimed.attempts, first_s=5.0, limit_s=600.0)
    if isinstance(policy.delivery, WebhookDelivery):
        own_s = WEBHOOK_WAITS_S[min(claimed.attempts, len(WEBHOOK_WAITS_S) - 1)]
    age_s = (claimed.now - claimed.counts_from).total_seconds()
    # At that age the next look lets the reply expire, so it must not sleep through it.
    left_s = max(policy.delivery_max_age_s - age_s, 0.0)
    return min(max(own_s, outcome.retry_after_s or 0.0), left_s)


def _may_repeat(
    claimed: ClaimedDelivery, policy: ChannelPolicy, *, takes_key: bool, begun: int | None = None
) -> bool:
    """Return whether an attempt of unclear outcome may be followed by another."""
    if not takes_key:
        return (claimed.attempts if begun is None else begun) < policy.max_unclear_deliveries
    # From the first attempt: the provider forgets the key a day after it first saw it.
    first = claimed.first_attempt_at or claimed.now
    is_webhook = isinstance(policy.delivery, WebhookDelivery)
    valid_s = WEBHOOK_KEY_VALID_S if is_webhook else KEY_VALID_S
    return claimed.now - first < timedelta(seconds=valid_s)
