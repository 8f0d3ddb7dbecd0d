"""PIN_TO_CORE: which core a process takes, and that all of its threads stay on it."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.support.databases import fresh_database
from tests.support.fleet import Ground, agents_file, fresh_ground
from worker.domain.ids import WorkerId
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.store.database import Database
from worker.store.workers import WorkerStore

HERE, ELSEWHERE = uuid4(), uuid4()


@pytest.fixture
def database(shared_postgres: EmbeddedPostgres) -> Iterator[Database]:
    with fresh_database(shared_postgres) as url:
        found = Database(url)
        yield found
        found.close()


@pytest.fixture
def pinned(shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis) -> Iterator[Ground]:
    with fresh_ground(shared_postgres, broker_url=shared_redis.url, agents=agents_file()) as ground:
        ground.fleet.start(2, PIN_TO_CORE="true")
        yield ground


def living(database: Database) -> WorkerStore:
    """Give a worker process that has just begun to beat."""
    store = WorkerStore(
        database, worker_id=WorkerId(uuid4()), host=str(uuid4()), pid=1, alive_s=60.0
    )
    store.beat()
    return store


def test_a_heartbeat_returns_the_place_among_the_living_and_their_number(
    database: Database,
) -> None:
    def beats(*those: WorkerStore) -> list[tuple[int, int]]:
        return [(beat.place, beat.size) for beat in (one.beat() for one in those)]

    first, second, third = [living(database) for _ in range(3)]
    assert beats(first, second, third) == [(0, 3), (1, 3), (2, 3)]
    first.leave()
    assert beats(second, third) == [(0, 2), (1, 2)]


def test_processes_of_one_machine_spread_over_the_cores_that_each_may_use(
    database: Database,
) -> None:
    taken = [living(database).take_core(HERE, [2, 3, 5]) for _ in range(4)]
    assert sorted(taken[:3]) == [2, 3, 5]
    assert living(database).take_core(HERE, [3]) == 3


def test_neither_another_machine_nor_a_dead_process_takes_a_core_away(database: Database) -> None:
    dead = living(database)
    assert dead.take_core(HERE, [0, 1]) == 0
    dead.leave()
    assert living(database).take_core(ELSEWHERE, [0, 1]) == 0
    assert living(database).take_core(HERE, [0, 1]) == 0
    assert living(database).take_core(HERE, [0, 1]) == 1


def test_all_threads_of_a_process_are_bound_and_two_processes_to_two_cores(
    pinned: Ground,
) -> None:
    cores = os.sched_getaffinity(0)
    bound = []
    for worker in pinned.fleet.running():
        found = {
            frozenset(os.sched_getaffinity(int(thread.name)))
            for thread in Path(f"/proc/{worker.pid}/task").iterdir()
        }
        (one,) = found
        assert len(one) == 1
        bound.append(one)
        assert re.search(r'"event": "worker.pinned"', worker.output())
    assert len(set(bound)) == min(2, len(cores))
    assert UUID(str(pinned.database.value("SELECT machine FROM workers LIMIT 1")))
