"""The rows of living worker processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from worker.domain.ids import WorkerId
from worker.store.database import Database, Store
from worker.store.locks import wait_lock
from worker.store.sql import sql

_BEAT = sql("""
WITH before AS (SELECT alive_until FROM workers WHERE id = :id)
INSERT INTO workers (id, host, pid, started_at, alive_until, stalled_since, finds_intents)
VALUES (:id, :host, :pid, service_now(), service_now() + :alive,
    CASE WHEN :stalled > interval '0' THEN service_now() - :stalled END, true)
ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until,
    stalled_since = excluded.stalled_since
RETURNING alive_until, (SELECT alive_until FROM before) AS before, service_now() AS at,
    (SELECT count(*) FROM workers w WHERE w.alive_until >= service_now()
        AND (w.started_at, w.id) < (workers.started_at, workers.id)) AS place,
    (SELECT count(*) FROM workers w WHERE w.alive_until >= service_now() AND w.id <> workers.id)
        AS others
""")
_TAKE_CORE = sql("""
UPDATE workers SET machine = :machine, core = (
    SELECT allowed.core FROM unnest(CAST(:cores AS bigint[])) AS allowed (core)
    LEFT JOIN workers w ON w.machine = :machine AND w.core = allowed.core AND w.id <> :id
        AND w.alive_until >= service_now()
    GROUP BY allowed.core ORDER BY count(w.id), allowed.core LIMIT 1)
WHERE id = :id RETURNING core
""")
# Users of the fast path get a due time, in case that only workers of release 0.1.0 are left.
_LEAVE = sql("""
WITH left_alone AS (
    UPDATE channel_users SET due_at = service_now() WHERE due_at IS NULL AND id IN (
        SELECT channel_user_id FROM calls WHERE state = 'intended' AND worker_id = :id)
)
UPDATE workers SET alive_until = service_now() WHERE id = :id
""")
# Leases may still refer to them: without its row, a holder is as dead as with one that has lapsed.
_FORGET = sql("DELETE FROM workers WHERE alive_until < service_now() - interval '1 day'")
_ALIVE = sql("""
SELECT host, pid, CAST(extract(epoch FROM service_now() - started_at) AS float8) AS up_s,
    CAST(coalesce(extract(epoch FROM service_now() - stalled_since), 0) AS float8) AS stalled_s
FROM workers WHERE alive_until >= service_now() AND host = coalesce(CAST(:host AS text), host)
ORDER BY started_at
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A committed heartbeat."""

    at: datetime
    """By the clock of Postgres."""
    lost: bool
    """Whether Postgres has lost the one before it."""
    place: int
    """Of this process among the living, counted from 0, the oldest first."""
    size: int
    """Number of the living."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LivingWorker:
    """A worker process whose heartbeat is fresh."""

    host: str
    pid: int
    up_s: float
    stalled_s: float
    """Seconds for which it has taken nothing while entries waited; 0 = it takes them."""


class LivingWorkers(Store):
    """Reads which worker processes are alive."""

    def workers(self, host: str | None = None) -> tuple[LivingWorker, ...]:
        """Return the living worker processes, of one host or of all, the oldest first."""
        return self._found(LivingWorker, _ALIVE, {"host": host})


class WorkerStore(Store):
    """Heartbeats: one row, one statement."""

    def __init__(
        self, database: Database, *, worker_id: WorkerId, host: str, pid: int, alive_s: float
    ) -> None:
        super().__init__(database)
        self._values = {
            "id": worker_id,
            "host": host,
            "pid": pid,
            "alive": timedelta(seconds=alive_s),
        }
        self._confirmed: datetime | None = None

    def beat(self, stalled_s: float = 0.0) -> Beat:
        """Extend the life of this process by `alive_s`, and record a stall."""
        values = self._values | {"stalled": timedelta(seconds=stalled_s)}
        with self._statement() as connection:
            row = connection.execute(_BEAT, values).one()
        confirmed, self._confirmed = self._confirmed, row.alive_until
        lost = confirmed is not None and (row.before is None or row.before < confirmed)
        return Beat(at=row.at, lost=lost, place=row.place, size=row.others + 1)

    def take_core(self, machine: UUID, cores: Sequence[int]) -> int:
        """Choose one of these cores of a machine, one that the fewest processes have."""
        values = self._values | {"machine": machine, "cores": list(cores)}
        with self._database.transaction() as connection:
            # Two that choose at once would see the same core as free.
            wait_lock(connection, "cores")
            return int(connection.execute(_TAKE_CORE, values).scalar_one())

    def leave(self) -> None:
        """Release all leases of this process at once."""
        self._confirmed = None
        self._change(_LEAVE, self._values)

    def forget_dead(self) -> None:
        """Delete the rows of workers that died long ago."""
        self._change(_FORGET)
