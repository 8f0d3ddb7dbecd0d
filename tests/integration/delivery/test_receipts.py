"""Receipts of text messages: in any order, before the answer, never backwards."""

import random
from collections.abc import Iterator
from uuid import UUID

import pytest

from tests.integration.delivery.test_delivering import Sink
from tests.support.world import NAMESPACE, World
from worker.bootstrap.events import build_take_event
from worker.domain.deliveries import NotDelivered, Sent, Unclear
from worker.domain.ids import ChannelUserId
from worker.domain.sms.receipts import Receipt
from worker.domain.states import DeliveryState
from worker.observability.metrics import REGISTRY
from worker.store.database import Database
from worker.store.delivery.receipts import ReceiptStore

CONFIG = '[channels.sms]\ndriver = "telnyx"\n'


@pytest.fixture
def receipts(world: World) -> Iterator[ReceiptStore]:
    database = Database(world.database.url)
    yield ReceiptStore(database)
    database.close()


def sent(world: World, *outcomes: object) -> UUID:
    """Let a reply go out; return its key."""
    mike = world.worker(CONFIG, channels={"sms": Sink(*outcomes)})  # type: ignore[arg-type]
    mike.receive(world.envelope("hello"))
    world.database.run(
        "UPDATE deliveries SET request = '{\"key\":\"' || idempotency_key || '\"}'"
        " WHERE request IS NULL"
    )
    mike.deliver()
    key: UUID = world.database.value(
        "SELECT idempotency_key FROM deliveries ORDER BY id DESC LIMIT 1"
    )
    return key


def row(world: World, key: UUID) -> tuple[object, ...]:
    (found,) = world.database.rows(
        "SELECT state, receipt, receipt_error, provider_id, due_at, lease_until FROM deliveries"
        " WHERE idempotency_key = %s",
        key,
    )
    return tuple(found.values())


@pytest.mark.parametrize(("last", "state"), [("delivered", "sent"), ("delivery_failed", "failed")])
def test_any_order_of_receipts_ends_in_the_same_row(
    world: World, receipts: ReceiptStore, last: str, state: str
) -> None:
    dice = random.Random(last)  # noqa: S311 - a seeded play
    key = sent(world)
    ways = ["queued", "sending", "sent", "sent", last, last]
    error = "40001" if state == "failed" else None
    for _ in range(40):
        dice.shuffle(ways)
        for status in ways:
            receipts.record(
                Receipt(
                    key=key,
                    provider_id="p",
                    status=status,
                    error=error if status == last else None,
                )
            )
        assert row(world, key) == (state, last, error, "p", None, None)
        world.database.run(
            "UPDATE deliveries SET state = 'sent', receipt = NULL, receipt_error = NULL,"
            " provider_id = NULL"
        )


@pytest.mark.parametrize("outcome", [Unclear(reason="timeout"), NotDelivered(reason="503")])
def test_a_receipt_ends_an_attempt_whose_answer_was_lost(
    world: World, receipts: ReceiptStore, outcome: object
) -> None:
    key = sent(world, outcome)
    receipts.record(Receipt(key=key, provider_id="p", status="delivered"))
    assert row(world, key)[:4] == ("sent", "delivered", None, "p")


def test_a_receipt_that_comes_before_the_answer_stands(
    world: World, receipts: ReceiptStore
) -> None:
    key = sent(world, NotDelivered(reason="away"))
    world.clock.advance(10)
    user = ChannelUserId(world.database.value("SELECT channel_user_id FROM deliveries"))
    mike = world.worker(CONFIG, channels={"sms": Sink()})
    store = mike.service.deliver.store
    claimed = store.claim(user, mike.service.deliver.routing())
    assert claimed is not None
    receipts.record(Receipt(key=key, provider_id="p", status="delivery_failed", error="40001"))
    store.end(claimed, DeliveryState.SENT, Sent(provider_id="p"))
    assert row(world, key)[:4] == ("failed", "delivery_failed", "40001", "p")


def test_by_the_providers_id_where_the_key_is_not_known(
    world: World, receipts: ReceiptStore
) -> None:
    key = sent(world, Sent(provider_id="m-1"))
    receipts.record(Receipt(key=None, provider_id="m-1", status="delivered"))
    assert row(world, key)[1] == "delivered"
    assert receipts.record(Receipt(key=None, provider_id="m-2", status="sent")) is None


def test_a_message_that_failed_for_now_goes_out_once_more_with_another_key(
    world: World, receipts: ReceiptStore
) -> None:
    key = sent(world)
    failed = Receipt(
        key=key, provider_id="p", status="delivery_failed", error="40008", repeatable=True
    )
    recorded = receipts.record(failed)
    assert recorded is not None
    assert recorded.repeated
    assert receipts.record(failed) is None
    (first, again) = world.database.rows(
        "SELECT id, state, idempotency_key AS key, request, repeats FROM deliveries ORDER BY id"
    )
    assert (first["state"], again["state"], again["repeats"]) == ("failed", "pending", first["id"])
    assert again["key"] != key
    assert str(again["key"]) in again["request"]
    assert str(key) not in again["request"]

    sink = Sink()
    mike = world.worker(CONFIG, channels={"sms": sink})
    world.clock.advance(61)
    mike.service.deliver(recorded.user_id)
    (attempt,) = sink.seen
    assert (attempt.idempotency_key, attempt.request) == (again["key"], again["request"])
    (outcome,) = world.database.rows("SELECT delivery, receipt FROM message_outcomes")
    assert outcome == {"delivery": "sent", "receipt": None}

    second = Receipt(
        key=again["key"], provider_id="q", status="delivery_failed", error="40008", repeatable=True
    )
    recorded = receipts.record(second)
    assert recorded is not None
    assert not recorded.repeated
    (outcome,) = world.database.rows(
        "SELECT delivery, receipt, receipt_error FROM message_outcomes"
    )
    assert tuple(outcome.values()) == ("failed", "delivery_failed", "40008")


def test_what_a_newer_reply_has_overtaken_is_not_sent_again(
    world: World, receipts: ReceiptStore
) -> None:
    key = sent(world)
    sent(world)
    recorded = receipts.record(
        Receipt(key=key, provider_id="p", status="delivery_failed", error="40006", repeatable=True)
    )
    assert recorded is not None
    assert not recorded.repeated


def test_a_receipt_of_a_block_is_an_opt_out_in_the_ledger(
    world: World, receipts: ReceiptStore
) -> None:
    key = sent(world)
    mike = world.worker(CONFIG, channels={"sms": Sink()})
    take = build_take_event(receipts._database, mike.service.deliver.routing, NAMESPACE)
    before = REGISTRY.get_sample_value(
        "worker_receipts_total", {"channel": "sms", "receipt": "delivery_failed"}
    )
    take.commit([Receipt(key=key, provider_id="p", status="delivery_failed", error="40300")])
    assert row(world, key)[:3] == ("opted_out", "delivery_failed", "40300")
    (entry,) = world.database.rows("SELECT source, stopped, address FROM consents")
    assert tuple(entry.values()) == ("telnyx_block", True, "+13125550001")
    after = REGISTRY.get_sample_value(
        "worker_receipts_total", {"channel": "sms", "receipt": "delivery_failed"}
    )
    assert after == (before or 0) + 1
