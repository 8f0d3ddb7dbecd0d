"""Messages on a queue that no worker takes are found, by everything that an operator looks at."""

import json
from collections.abc import Iterator

import pytest
from celery import Celery
from redis import Redis

from tests.support.cli import Said, invoke
from tests.support.world import NAMESPACE
from worker.cli.inspect.metrics import parts_of
from worker.queue.misplaced import misplaced_entries
from worker.store.database import Database
from worker.store.reports.gauges import GaugeStore

RECEIVE = "messages.receive"
ENVELOPE = {"envelope": {"version": 1, "text": "CANARY"}}


@pytest.fixture
def producer(broker_url: str) -> Iterator[Celery]:
    with Celery(broker=broker_url, set_as_current=False) as app:
        yield app


def test_a_forgotten_and_a_misspelt_queue_are_found_and_other_programs_are_not(
    producer: Celery, broker_url: str
) -> None:
    assert misplaced_entries(broker_url) == {}
    for number in range(25):
        producer.send_task(RECEIVE, kwargs=ENVELOPE)
        producer.send_task("other.work", kwargs=ENVELOPE, queue=f"theirs-{number % 3}")
    producer.send_task(RECEIVE, kwargs=ENVELOPE, queue="inbuond", priority=9)
    producer.send_task(RECEIVE, kwargs=ENVELOPE, queue="inbound")
    producer.send_task(RECEIVE, kwargs=ENVELOPE, queue="theirs-1")
    assert misplaced_entries(broker_url) == {"celery": 25, "inbuond": 1, "theirs-1": 1}
    with Redis.from_url(broker_url) as redis:
        redis.delete("inbuond")
        redis.set("inbuond", "no list")
        redis.execute_command("ACL", "SETUSER", "small", "on", ">pw", "~*", "+@all", "-scan")
        small = f"redis://small:pw@{broker_url.rpartition('@')[2]}"
        assert misplaced_entries(small) == {"celery": 25}
        redis.execute_command("ACL", "DELUSER", "small")


def test_every_place_that_an_operator_looks_at_shows_them(
    producer: Celery, broker_url: str, database_url: str
) -> None:
    producer.send_task(RECEIVE, kwargs=ENVELOPE)
    env = {"DATABASE_URL": database_url, "BROKER_URL": broker_url, "NAMESPACE": str(NAMESPACE)}

    def run(*command: str) -> Said:
        return invoke(*command, env=env | {"SANDBOX_DIR": "/nonexistent"})

    line = "1 message waits on queue celery, which no worker takes"
    for command in (("status",), ("stuck", "--json"), ("doctor",)):
        said = run(*command)
        assert said.returncode == 1, command
        assert line in " ".join((said.stdout + said.stderr).split()), command
        assert "CANARY" not in said.stdout + said.stderr
    assert json.loads(run("status", "--json").stdout)["misplaced"] == {"celery": 1}
    (one,) = json.loads(run("stuck", "--json").stdout)["stuck"]
    assert one["kind"] == "misplaced"
    database = Database(database_url)
    parts = parts_of(GaugeStore(database), broker_url)
    assert list(parts["misplaced"]()) == [("worker_misplaced_messages", ("celery",), 1.0)]
    database.close()
