"""One Redis database for several Celery applications, and for two installations of this service."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from celery import Celery
from redis import Redis

from message_worker_client import Producer
from tests.support.databases import ROOT
from tests.support.fleet import Ground, agents_file, fresh_ground
from tests.support.forked import ForkedProcess
from tests.support.secret_files import GIVEN, OTHERS
from worker.queue.broker import QUEUES
from worker.queue.waiting import waiting_entries
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis


@contextmanager
def shop(broker_url: str, folder: Path) -> Iterator[ForkedProcess]:
    """A worker of another application."""
    env = os.environ | {"SHOP_BROKER": broker_url, "PYTHONPATH": str(ROOT)}
    app = "tests.support.other_app:app"
    program = ("celery", "-A", app, "worker", "-P", "threads", "-l", "INFO", "-n", "shop@here")
    process = ForkedProcess(*program, log=folder / "shop.log", env=env)
    try:
        yield process
    finally:
        process.kill()


def pinged_by_ours(broker_url: str, folder: Path) -> str:
    """Ask as `celery -A worker inspect` and Flower do."""
    env = os.environ | GIVEN | OTHERS | {"BROKER_URL": broker_url}
    command = ("celery", "-A", "worker", "inspect", "ping", "--timeout", "2")
    log = folder / "ping.log"
    ForkedProcess(*command, log=log, env=env).wait(30)
    return log.read_text()


def test_remote_control_of_one_application_does_not_reach_the_other(
    shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis, broker_url: str, tmp_path: Path
) -> None:
    theirs = Celery("shop", broker=broker_url, set_as_current=False).control
    with (
        fresh_ground(shared_postgres, broker_url=broker_url, agents=agents_file(6.0)) as ground,
        shop(broker_url, tmp_path) as other,
    ):
        (ours,) = ground.fleet.start()
        ground.fleet.wait_for(lambda: "shop@here ready" in (tmp_path / "shop.log").read_text())
        # Switches for events go the same way as these.
        said = pinged_by_ours(broker_url, tmp_path)
        assert ours.name in said
        assert "shop@here" not in said
        assert [list(one) for one in theirs.ping(timeout=1)] == [["shop@here"]]
        theirs.shutdown()
        assert other.wait(20)
        answer(ground, broker_url)
        assert ours.is_running
        assert "control_message.dropped" not in ours.output()


def answer(ground: Ground, broker_url: str) -> None:
    """Have the ground's workers answer one message that this broker brings."""
    user = ground.user()
    envelope = ground.envelope("hello", user=user)
    with Producer(broker_url=broker_url) as producer:
        producer.send_many([envelope])
    ground.wait_until_final(user, messages=1)


def test_a_prefix_keeps_two_installations_on_one_redis_apart(
    shared_postgres: EmbeddedPostgres, broker_url: str
) -> None:
    staging = f"{broker_url}?prefix=staging-"
    with (
        fresh_ground(shared_postgres, broker_url=broker_url, agents=agents_file(6.0)) as ground,
        fresh_ground(shared_postgres, broker_url=broker_url, agents=agents_file(6.0)) as other,
    ):
        ground.fleet.start()
        other.fleet.start(BROKER_URL=staging)
        answer(ground, broker_url)
        answer(other, staging)
        user = other.user()
        plain = Celery("theirs", broker=broker_url, set_as_current=False)
        plain.conf.broker_transport_options = {"global_keyprefix": "staging-"}
        envelope = other.envelope("hello", user=user)
        plain.send_task("messages.receive", kwargs={"envelope": envelope}, queue="inbound")
        plain.close()
        other.wait_until_final(user, messages=1)
        assert ground.database.value("SELECT count(*) FROM messages") == 1
        assert other.database.value("SELECT count(*) FROM messages") == 2
        other.fleet.stop()
        with Redis.from_url(broker_url) as redis:
            redis.delete("staging-unacked")  # what the worker had when it was ended
            redis.lpush("staging-inbound", "x")
            redis.hset("staging-unacked", "tag", "x")
            assert redis.sismember(
                "staging-_kombu.binding.inbound", "inbound\x06\x16\x06\x16inbound"
            )
        counts = dict.fromkeys((*QUEUES, "unacked"), 0)
        assert waiting_entries(broker_url, QUEUES) == counts
        assert waiting_entries(staging, QUEUES) == counts | {"inbound": 1, "unacked": 1}
