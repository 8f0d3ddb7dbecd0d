"""What Flower shows of producers that hide nothing: a real worker, and what Celery tells of it."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.support.envelopes import FIXTURES
from tests.support.intake_worker import Worker
from worker.sandbox.redis import EmbeddedRedis

WRITTEN = ["Ada@", "example", "Grüße", "help@", "back-office", "20261122.2"]
"""Of texts, addresses and ids in the fixture, whose headers quote them."""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    with EmbeddedRedis(tmp_path / "redis") as redis:
        worker = Worker(redis, tmp_path)
        yield worker
        worker.stop()


def slow_call() -> bytes:
    """What Celery's own `send_task` has queued, for the task that takes its time."""
    entry = json.loads((FIXTURES / "wire" / "celery_send_task.bin").read_bytes())
    assert all(word in entry["headers"]["kwargsrepr"] for word in WRITTEN[:2])
    entry["headers"] |= {"task": "messages.slow", "id": str(uuid.uuid4())}
    entry["properties"]["delivery_tag"] = str(uuid.uuid4())
    return json.dumps(entry).encode()


def test_neither_active_nor_reserved_nor_events_show_what_was_written(worker: Worker) -> None:
    worker.start("--concurrency", "1", "--prefetch-multiplier", "4")
    worker.wait_until_ready()
    app = Celery(broker=worker.broker, set_as_current=False)
    events: list[dict[str, Any]] = []
    receiver = app.events.Receiver(app.connection(), handlers={"*": events.append})
    with receiver.consumer_context(wakeup=False) as (connection, _, _):
        connection.drain_events(timeout=10)  # subscribes; a worker sends a heartbeat every 2 s
        worker.push(*(slow_call() for _ in range(4)))
        worker.wait(lambda: worker.client.hlen("unacked") == 4)
        inspect = app.control.inspect(timeout=1)
        (active,) = inspect.active().values()
        (reserved,) = inspect.reserved().values()
        ids = [task["id"] for task in active + reserved]
        queried = inspect.query_task(ids)
        while sum(event["type"] == "task-received" for event in events) < 4:
            connection.drain_events(timeout=10)
    worker.processes[0].kill()  # rather than wait for the slow ones
    assert (len(active), len(reserved)) == (1, 3)
    told = json.dumps([active, reserved, queried, events], default=str, ensure_ascii=False)
    assert [word for word in WRITTEN if word in told] == []
    assert "(hidden)" in told
    assert [word for word in WRITTEN if word in worker.output()] == []
    app.close()
