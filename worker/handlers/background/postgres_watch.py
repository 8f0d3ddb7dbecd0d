"""The heartbeat, and what it shows of Postgres: a clock that jumped, commits that are missing."""

from dataclasses import dataclass

from worker.handlers.turns.service_clock import ServiceClock
from worker.observability import metrics
from worker.observability.logs import log
from worker.queue.fleet import FLEET
from worker.store.cluster import ClusterStore
from worker.store.sql import Connection
from worker.store.workers import WorkerStore

WATCHERS = 2
"""Processes that look with each heartbeat; the others, with each new connection."""


@dataclass(frozen=True, kw_only=True)
class PostgresWatch:
    """Beats for one process."""

    workers: WorkerStore
    cluster: ClusterStore
    clock: ServiceClock

    def beat(self, stalled_s: float = 0.0) -> None:
        """Commit a heartbeat and look at Postgres. Raises `RetryableError`."""
        before_s = self.clock.local()
        beat = self.workers.beat(stalled_s)
        FLEET.place, FLEET.size = beat.place, beat.size
        self.clock.observe(beat.at, before_s, self.clock.local())
        # What one process records is known to all.
        if (beat.lost or beat.place < WATCHERS) and self.cluster.is_replaced(lost=beat.lost):
            _report(heartbeat_lost=beat.lost)

    def look(self, connection: Connection) -> None:
        """Look at Postgres by a new connection of turns or intake.

        After a failover it is the first thing that a process has of the new Postgres, and a
        heartbeat comes seconds later.
        """
        if self.cluster.is_other(connection):
            _report(heartbeat_lost=False)


def _report(*, heartbeat_lost: bool) -> None:
    metrics.POSTGRES_CHANGES.labels("replaced").inc()
    log.error("postgres.replaced", heartbeat_lost=heartbeat_lost)
