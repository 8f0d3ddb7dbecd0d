"""The transport alone, on a real Redis: what is popped for a connection that closes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

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
    with Redis(port=redis.port) as client:
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
    with Redis(port=redis.port) as client:
        assert client.lrange("inbound", 0, -1) == [b"\xffgarbage"]
    connection.release()
