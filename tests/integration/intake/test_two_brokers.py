"""One installation with two brokers: nothing but the address of a worker's broker differs."""

from collections.abc import Iterator

import pytest
from celery import Celery

from tests.support.fleet import Ground, agents_file, fresh_ground
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis


@pytest.fixture
def ground(shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis) -> Iterator[Ground]:
    with fresh_ground(shared_postgres, broker_url=shared_redis.url, agents=agents_file()) as made:
        yield made


def test_messages_of_both_are_answered_once_and_the_workers_of_one_do_it_for_the_other(
    ground: Ground, shared_redis: EmbeddedRedis
) -> None:
    other_url = shared_redis.url_of(7)
    (here,) = ground.fleet.start(1)
    (there,) = ground.fleet.start(1, BROKER_URL=other_url)
    users = [ground.user() for _ in range(6)]
    with Celery("producer", broker=other_url, set_as_current=False) as producer:
        for number in range(2):
            for place, user in enumerate(users):
                envelope = ground.envelope(f"{number} of {user}", user=user)
                if place % 2:
                    producer.send_task(
                        "messages.receive", kwargs={"envelope": envelope}, queue="inbound"
                    )
                else:
                    ground.fleet.send(envelope)
        ground.wait_until_final(*users, messages=12)
        for user in users:
            assert sorted(ground.said(user)) == [f"0 of {user}", f"1 of {user}"]

        ground.simulator.reconfigure(latency_s=5)
        ground.fleet.send(ground.envelope("the last one", user=users[0]))
        assert ground.wait_for_call("the last one") is here
        here.kill()
        ground.simulator.reconfigure(latency_s=0)
        ground.wait_until_final(users[0], messages=3)
    assert ground.said(users[0])[-1:] == ["the last one"], there.output()[-2000:]
