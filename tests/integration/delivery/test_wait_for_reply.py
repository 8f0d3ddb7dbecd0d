"""Getting the answer back: by our id, or by the producer's names of the message."""

import threading

import pytest

from message_worker_client import Producer, ProducerError, wait_for_reply
from tests.support.world import World


def test_a_message_sent_through_sql_is_answered_and_found(world: World, database_url: str) -> None:
    with Producer(database_url=database_url) as producer:
        queued = producer.send(channel="web", user="ann", message_id="m-1", text="hello")
    assert queued.inbox_id is not None
    worker = world.worker()
    answering = threading.Timer(
        0.2, lambda: (worker.service.background.drain_inbox(), worker.answer())
    )
    answering.start()
    outcome = wait_for_reply(
        database_url, channel="web", user="ann", message_id="m-1", timeout_s=20
    )
    answering.join()

    assert outcome is not None
    assert (outcome.outcome, outcome.source, outcome.delivery) == ("answered", "call", "sent")
    assert outcome.text == world.replies()[0]["text"]
    assert wait_for_reply(database_url, message=outcome.message) == outcome


def test_an_address_in_sqlalchemys_spelling_works_as_well(world: World, database_url: str) -> None:
    spelled = database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    assert spelled != database_url
    with Producer(database_url=spelled) as producer:
        producer.send(channel="web", user="ann", message_id="m-1", text="hello")
    worker = world.worker()
    worker.service.background.drain_inbox()
    worker.answer()
    outcome = wait_for_reply(spelled, channel="web", user="ann", message_id="m-1", timeout_s=20)
    assert outcome is not None
    assert outcome.outcome == "answered"


def test_a_batch_through_sql_keeps_its_order(world: World, database_url: str) -> None:
    with Producer(database_url=database_url) as producer:
        sent = producer.send_many(
            {"channel": "web", "user": "ann", "message_id": f"m-{n}", "text": str(n)}
            for n in range(700)
        )
    assert sent == 700
    worker = world.worker()
    while worker.service.background.drain_inbox():
        pass
    rows = world.database.rows("SELECT message_id FROM messages ORDER BY seq")
    assert [row["message_id"] for row in rows] == [f"m-{n}" for n in range(700)]


def test_what_is_not_answered_in_time_is_none(world: World, database_url: str) -> None:
    world.worker().accept_only(world.envelope("hello", user="+13125550001"))
    assert wait_for_reply(database_url, message=1, timeout_s=0.1) is None
    assert wait_for_reply(database_url, message=404, timeout_s=0.1) is None


def test_a_message_has_to_be_named_in_one_way() -> None:
    for names in ({}, {"channel": "web"}, {"message": 1, "message_id": "m-1"}):
        with pytest.raises(ProducerError, match="either message, or channel"):
            wait_for_reply("postgresql://nowhere", **names)  # type: ignore[arg-type]


def test_a_database_that_is_away_is_said_without_its_address(database_url: str) -> None:
    away = database_url + "&port=1"
    with pytest.raises(ProducerError, match="could not be asked") as raised:
        wait_for_reply(away, message=1)
    assert "port" not in str(raised.value)
