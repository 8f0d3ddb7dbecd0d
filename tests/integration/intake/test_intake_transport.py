"""The transport alone, on a real Redis: what is popped for a connection that closes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from celery.utils.saferepr import saferepr
from celery.utils.serialization import jsonify
from redis import Redis

from worker.domain.reasons import DeadLetterReason as Reason
from worker.queue.gate.entry import RejectedEntry
from worker.queue.gate.gate import Admitted
from worker.queue.gate.install import install_gate
from worker.sandbox.redis import EmbeddedRedis


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def app(redis: EmbeddedRedis) -> Celery:
    app = Celery(broker=redis.url, set_as_current=False)
    install_gate(app, keep=lambda _: pytest.fail("not asked for"), accepts={"inbound": set()})
    return app


def test_an_entry_popped_after_the_consumer_left_goes_back(
    app: Celery, redis: EmbeddedRedis
) -> None:
    connection = app.connection()
    channel = connection.default_channel
    channel.basic_consume("inbound", False, lambda _: pytest.fail("delivered"), "tag")
    channel.connection.cycle.on_poll_start()  # sends BRPOP
    channel.basic_cancel("tag")
    with Redis.from_url(redis.url) as client:
        client.lpush("inbound", b"\xffgarbage")
        assert client.llen("inbound") == 0
        connection.release()
        assert client.lrange("inbound", 0, -1) == [b"\xffgarbage"]


def test_an_entry_that_redis_does_not_take_back_comes_with_the_next_connection(
    app: Celery, redis: EmbeddedRedis
) -> None:
    homeless = app.conf.broker_transport_options["unacked_entries"]
    first = app.connection().default_channel
    redis.stop()
    first._return("inbound", b"\xffgarbage")
    assert list(homeless) == [("inbound", b"\xffgarbage")]
    redis.restart()
    connection = app.connection()
    channel = connection.default_channel
    channel.basic_consume("turns", False, lambda _: None, "tag")
    channel.connection.cycle.on_poll_start()
    assert not homeless
    with Redis.from_url(redis.url) as client:
        assert client.lrange("inbound", 0, -1) == [b"\xffgarbage"]
    connection.release()


def test_what_was_popped_is_shown_nowhere_while_redis_is_away(
    app: Celery, redis: EmbeddedRedis
) -> None:
    """`celery inspect conf` prints the transport's options, by repr for what is no JSON."""
    channel = app.connection().default_channel
    redis.stop()
    channel._return("inbound", b"Dear Mr. Miller")
    held = app.conf.broker_transport_options["unacked_entries"]
    assert len(held) == 1
    admitted = Admitted({"body": "TXIuIE1pbGxlcg=="}, body=b"Mr. Miller", payload=["Mr. Miller"])
    rejected = RejectedEntry(raw=b"Mr. Miller", reason=Reason.NOT_JSON, detail="", queue="inbound")
    for one in (held, admitted, rejected, app.conf.broker_transport_options):
        for shown in (repr(one), str(one), f"{one!r:.500}"):
            assert "Miller" not in shown
            assert "TXIuIE1pbGxlcg" not in shown
    assert "Miller" not in json.dumps(jsonify(app.conf.table(), unknown_type_filter=saferepr))
