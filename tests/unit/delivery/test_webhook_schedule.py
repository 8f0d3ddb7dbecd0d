"""When a webhook is tried again, and how it ends."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from worker.domain.deliveries import (
    WEBHOOK_KEY_VALID_S,
    WEBHOOK_MAX_AGE_S,
    ClaimedDelivery,
    DeliveryOutcome,
    NotDelivered,
    OutgoingReply,
    Rejected,
    Unclear,
    state_after,
    wait_after,
)
from worker.domain.ids import ChannelUserId, DeliveryId
from worker.domain.messages import ChannelAddress
from worker.domain.routing import ChannelPolicy
from worker.domain.ways_out import WebhookDelivery

NOW = datetime(2026, 1, 2, tzinfo=UTC)
WEBHOOK = WebhookDelivery(url="https://crm.example/in")
POLICY = ChannelPolicy(name="web", delivery=WEBHOOK, delivery_max_age_s=WEBHOOK_MAX_AGE_S)
DOWN = NotDelivered(reason="connect")


def claimed(*, attempts: int, age_s: float = 0.0) -> ClaimedDelivery:
    return ClaimedDelivery(
        reply=OutgoingReply(
            delivery_id=DeliveryId(1),
            user_id=ChannelUserId(1),
            idempotency_key=UUID(int=1),
            to=ChannelAddress(channel="web", recipient="", address="a", thread=""),
            text="hello",
            message_ids=(),
            metadata={},
        ),
        policy_name="web",
        token=1,
        attempts=attempts,
        first_attempt_at=NOW - timedelta(seconds=age_s) if attempts else None,
        interrupted=False,
        created_at=NOW - timedelta(seconds=age_s),
        counts_from=NOW - timedelta(seconds=age_s),
        now=NOW,
        paused=False,
    )


def test_the_waits_are_those_of_the_contract() -> None:
    minute_s, hour_s = 60.0, 3600.0
    waits_s = [wait_after(claimed(attempts=n), DOWN, POLICY) for n in range(7)]
    assert waits_s == [
        *(5, 5 * minute_s, 30 * minute_s),
        *(2 * hour_s, 5 * hour_s, 10 * hour_s, 10 * hour_s),
    ]
    assert sum(waits_s) < WEBHOOK_MAX_AGE_S < WEBHOOK_KEY_VALID_S


@pytest.mark.parametrize("outcome", [DOWN, Unclear(reason="timeout")])
def test_after_the_last_of_them_it_has_failed(outcome: DeliveryOutcome) -> None:
    again = [state_after(claimed(attempts=n), outcome, POLICY, takes_key=True) for n in range(8)]
    assert set(again[:7]) == {"pending" if outcome is DOWN else "sending"}
    assert again[7] == "failed"


def test_gone_is_for_good() -> None:
    gone = Rejected(reason="status 410")
    assert state_after(claimed(attempts=0), gone, POLICY, takes_key=True) == "failed"


def test_a_longer_pause_is_granted_and_a_shorter_one_changes_nothing() -> None:
    asked = [NotDelivered(reason="429", retry_after_s=s) for s in (1.0, 90.0)]
    assert [wait_after(claimed(attempts=0), one, POLICY) for one in asked] == [5.0, 90.0]


@pytest.mark.parametrize(("age_s", "wait_s"), [(3000.0, 600.0), (3500.0, 100.0), (9999.0, 0.0)])
def test_no_wait_goes_beyond_the_age_at_which_it_stops_blocking(
    age_s: float, wait_s: float
) -> None:
    policy = ChannelPolicy(name="web", delivery_max_age_s=3600.0)
    assert wait_after(claimed(attempts=20, age_s=age_s), DOWN, policy) == wait_s
    short = replace(policy, delivery=WEBHOOK)
    assert wait_after(claimed(attempts=6, age_s=age_s), DOWN, short) <= 3600.0 - min(age_s, 3600.0)
