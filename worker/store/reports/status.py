"""One look at what an operator asks first. Reads only: counts, ages, names of gates, reasons."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from worker.domain.errors import PermanentError
from worker.domain.reports.message_history import ClosedGate
from worker.store.database import Database
from worker.store.limits.gates import closed_gates
from worker.store.sql import Connection, Statement, sql
from worker.store.workers import LivingWorker, living_workers

_STATE = sql("""
SELECT to_regclass('alembic_version') IS NOT NULL AS migrated,
    current_setting('server_encoding') = 'UTF8' AS in_utf8
""")
_REVISION = sql("SELECT version_num FROM alembic_version")
_MESSAGES = sql("SELECT state, count(*) FROM messages GROUP BY state")
# Each half has an index of its own: what waits, and what an open turn has taken.
_OLDEST = sql("""
SELECT extract(epoch FROM service_now() - min(accepted_at)) FROM (
    SELECT min(accepted_at) AS accepted_at FROM messages WHERE state = 'pending'
    UNION ALL
    SELECT min(m.accepted_at) FROM turns t JOIN messages m ON m.turn_id = t.id
    WHERE t.state = 'open' AND m.state = 'in_turn'
) AS unanswered
""")
_OPEN = sql("""
SELECT (SELECT count(*) FROM turns WHERE state = 'open') AS turns,
       (SELECT count(*) FROM calls WHERE state = 'intended') AS calls
""")
_DEAD_LETTERS = sql("""
SELECT reason, count(*) FROM dead_letters WHERE resolution IS NULL GROUP BY reason
""")
_AGES = sql("""
SELECT (SELECT count(*) FROM inbox) AS inbox,
    (SELECT extract(epoch FROM service_now() - min(created_at)) FROM inbox) AS inbox_s,
    (SELECT extract(epoch FROM service_now() - min(created_at)) FROM deliveries
     WHERE state IN ('pending', 'sending')) AS undelivered_s,
    (SELECT count(*) FROM workers
     WHERE alive_until >= service_now() AND stalled_since IS NOT NULL) AS stalled
""")
_DELIVERIES = sql("SELECT state, count(*) FROM deliveries GROUP BY state")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What the tables say at one moment."""

    workers: tuple[LivingWorker, ...] = ()
    messages: Mapping[str, int] = field(default_factory=dict)
    """State -> how many; states without a message are left out, here and in `deliveries`."""
    oldest_unanswered_s: float | None = None
    """Age of the oldest message without an outcome; None = there is none."""
    open_turns: int = 0
    calls_in_flight: int = 0
    closed_gates: tuple[ClosedGate, ...] = ()
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    """Reason -> how many nobody has resolved."""
    deliveries: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ages:
    """Ages in seconds; None = nothing waits there."""

    inbox: int
    """Rows that no worker has accepted."""
    oldest_inbox_s: float | None
    oldest_undelivered_s: float | None
    """Of a reply, since it was written."""
    stalled_workers: int
    """Living processes that take nothing while entries wait."""


class StatusStore:
    """Questions about the whole, for people and scripts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def revision(self) -> str | None:
        """Give the migration the database stands at; None = it was never migrated.

        Raises `PermanentError` where the database does not store UTF-8.
        """
        with self._database.statement() as connection:
            state = connection.execute(_STATE).one()
            if not state.in_utf8:
                raise PermanentError(
                    "the database does not store UTF-8: create one with ENCODING 'UTF8'"
                )
            if not state.migrated:
                return None
            found = connection.execute(_REVISION).scalar_one_or_none()
        return None if found is None else str(found)

    def workers(self, host: str | None = None) -> tuple[LivingWorker, ...]:
        """Return the living worker processes, of one host or of all, the oldest first."""
        with self._database.statement() as connection:
            return living_workers(connection, host)

    def overview(self) -> Overview:
        """Count everything. Raises `PermanentError` where the tables are not there yet."""
        with self._database.statement() as connection:
            oldest_s = connection.execute(_OLDEST).scalar_one()
            in_work = connection.execute(_OPEN).one()
            return Overview(
                workers=living_workers(connection),
                messages=_counted(connection, _MESSAGES),
                oldest_unanswered_s=None if oldest_s is None else float(oldest_s),
                open_turns=in_work.turns,
                calls_in_flight=in_work.calls,
                closed_gates=closed_gates(connection),
                dead_letters=_counted(connection, _DEAD_LETTERS),
                deliveries=_counted(connection, _DELIVERIES),
            )

    def ages(self) -> Ages:
        """Return how old the oldest inbox row and the oldest undelivered reply are."""
        with self._database.statement() as connection:
            row = connection.execute(_AGES).one()
        return Ages(
            inbox=row.inbox,
            oldest_inbox_s=None if row.inbox_s is None else float(row.inbox_s),
            oldest_undelivered_s=None if row.undelivered_s is None else float(row.undelivered_s),
            stalled_workers=row.stalled,
        )


def _counted(connection: Connection, question: Statement) -> dict[str, int]:
    return {str(name): int(count) for name, count in connection.execute(question)}
