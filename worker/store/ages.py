"""How old the oldest is of what waits outside of turns: in the inbox, and to be delivered."""

from dataclasses import dataclass

from worker.store.database import Database
from worker.store.sql import sql

_AGES = sql("""
SELECT (SELECT count(*) FROM inbox) AS inbox,
    (SELECT extract(epoch FROM service_now() - min(created_at)) FROM inbox) AS inbox_s,
    (SELECT extract(epoch FROM service_now() - min(created_at)) FROM deliveries
     WHERE state IN ('pending', 'sending')) AS undelivered_s,
    (SELECT count(*) FROM workers
     WHERE alive_until >= service_now() AND stalled_since IS NOT NULL) AS stalled
""")


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


def read_ages(database: Database) -> Ages:
    """Look once. Raises `PermanentError` where the tables are not there yet."""
    with database.statement() as connection:
        row = connection.execute(_AGES).one()
    return Ages(
        inbox=row.inbox,
        oldest_inbox_s=None if row.inbox_s is None else float(row.inbox_s),
        oldest_undelivered_s=None if row.undelivered_s is None else float(row.undelivered_s),
        stalled_workers=row.stalled,
    )
