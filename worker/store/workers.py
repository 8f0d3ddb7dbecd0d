"""The rows of living worker processes."""

from datetime import timedelta

from sqlalchemy import text

from worker.domain.ids import WorkerId
from worker.store.database import Database

_BEAT = text("""
INSERT INTO workers (id, host, pid, started_at, alive_until)
VALUES (:id, :host, :pid, service_now(), service_now() + :alive)
ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until
""")
_LEAVE = text("UPDATE workers SET alive_until = service_now() WHERE id = :id")
# Rows nobody refers to any more, long after their worker died.
_FORGET = text("""
DELETE FROM workers w WHERE alive_until < service_now() - interval '1 day'
  AND NOT EXISTS (SELECT FROM channel_users u WHERE u.lease_owner = w.id)
""")


class WorkerStore:
    """Heartbeats: one row, one statement."""

    def __init__(
        self, database: Database, *, worker_id: WorkerId, host: str, pid: int, alive_s: float
    ) -> None:
        self._database = database
        self._values = {
            "id": worker_id,
            "host": host,
            "pid": pid,
            "alive": timedelta(seconds=alive_s),
        }

    def beat(self) -> None:
        """Say that this process lives for another `alive_s`."""
        with self._database.statement() as connection:
            connection.execute(_BEAT, self._values)

    def leave(self) -> None:
        """Give all leases of this process free at once."""
        with self._database.statement() as connection:
            connection.execute(_LEAVE, self._values)

    def forget_dead(self) -> None:
        """Drop the rows of workers that died long ago."""
        with self._database.statement() as connection:
            connection.execute(_FORGET)
