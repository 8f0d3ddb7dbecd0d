"""Which of two receipts of a message counts."""

import pytest

from worker.domain.sms.receipts import Receipt, is_known, outranked


@pytest.mark.parametrize(
    ("later", "earlier"),
    [("sent", "queued"), ("delivered", "sent"), ("delivery_failed", "delivery_unconfirmed")],
)
def test_a_later_status_replaces_an_earlier_one_and_never_the_other_way(
    later: str, earlier: str
) -> None:
    assert earlier in outranked(later)
    assert later not in outranked(earlier)


def test_of_delivered_and_failed_the_first_stands() -> None:
    assert "delivered" not in outranked("delivery_failed")
    assert "delivery_failed" not in outranked("delivered")


def test_an_unknown_status_counts_for_nothing() -> None:
    assert not is_known("unknown")
    assert outranked("unknown") == ()


def test_expired_is_a_failure_and_unconfirmed_is_none() -> None:
    assert Receipt(key=None, provider_id="1", status="expired").fails
    assert not Receipt(key=None, provider_id="1", status="delivery_unconfirmed").fails
