"""Statements that wait for a lock which the test holds."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from tests.support.processes import eventually
from tests.support.world import World
from worker.domain.errors import WorkerError

T = TypeVar("T")


def in_a_thread(do: Callable[[], T]) -> Future[T]:
    """Start it, and leave it waiting for a lock that somebody holds."""
    ended: Future[T] = Future()

    def run() -> None:
        try:
            ended.set_result(do())
        except WorkerError as error:
            ended.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return ended


def are_waiting(world: World, number: int) -> bool:
    """Whether so many sessions wait for a lock, in a moment."""
    asked = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return eventually(lambda: world.database.value(asked) == number)
