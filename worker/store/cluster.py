"""What the service knows of its Postgres: which one it is, and what happened to it.

A standby that took over, or a restored backup, may lack the newest commits. A clock that jumped
makes every wait in SQL end too early or too late.
"""

from dataclasses import dataclass
from datetime import timedelta

from worker.domain.errors import DatabaseAwayError, PermanentError
from worker.observability.logs import log
from worker.store.database import Database, Store
from worker.store.sql import Connection, Statement, sql

# A promoted standby begins a new timeline; a restore by pg_restore makes the table anew. Only the
# timeline of the place where Postgres writes is the current one: that of the last checkpoint lags.
_IDENTITY = """concat_ws(' ', (SELECT system_identifier FROM pg_control_system()),
    left(pg_walfile_name(pg_current_wal_lsn()), 8), CAST(CAST('cluster' AS regclass) AS oid))"""
# Without the rights, or on a service that has another storage below.
_TABLE_ALONE = "CAST(CAST(CAST('cluster' AS regclass) AS oid) AS text)"


def _look(identity: str) -> Statement:
    return sql(f"""
SELECT {identity} AS identity, c.identity AS known
FROM (SELECT) AS here LEFT JOIN cluster c ON c.one
""")


_LOOK, _LOOK_AT_TABLE = _look(_IDENTITY), _look(_TABLE_ALONE)
_HIDDEN = frozenset({"0A000", "42501", "42883"})
"""SQLSTATE of a function that this Postgres does not have, or not for us."""
_KNOW = sql("""
INSERT INTO cluster (identity, replaced_at)
VALUES (:identity, CASE WHEN :lost THEN service_now() END)
ON CONFLICT (one) DO UPDATE SET identity = excluded.identity,
    replaced_at = coalesce(excluded.replaced_at, cluster.replaced_at),
    complete_on = CASE WHEN excluded.replaced_at IS NOT NULL THEN 'lost ' ELSE '' END
        || cluster.complete_on
""")
_AGES = sql("""
SELECT CAST(extract(epoch FROM service_now() - replaced_at) AS float8) AS replaced_s,
    CAST(extract(epoch FROM service_now() - jumped_at) AS float8) AS jumped_s
FROM cluster WHERE one
""")
# One process sees the jump first; what it has shifted must not be shifted again.
_JUMPED = sql("""
INSERT INTO cluster (jumped_at) VALUES (service_now())
ON CONFLICT (one) DO UPDATE SET jumped_at = excluded.jumped_at
WHERE cluster.jumped_at IS NULL
   OR abs(extract(epoch FROM service_now() - cluster.jumped_at)) > :again_s
RETURNING jumped_at
""")
_AGAIN_S = 30.0


def _shifted(column: str) -> str:
    """Return SQL: a time that was ahead before the jump stays as far ahead, any other as it is.

    After a jump forward, a time beyond the new present was set after it.
    """
    return f"""CASE WHEN {column} > service_now() - greatest(:by, interval '0')
        AND (:by < interval '0' OR {column} < service_now() - interval '10 seconds')
    THEN greatest(service_now(), {column} + :by) ELSE {column} END"""


def _shift(table: str, *columns: str, where: str) -> Statement:
    sets = ", ".join(f"{column} = {_shifted(column)}" for column in columns)
    return sql(f"UPDATE {table} SET {sets} WHERE {where}")


_SHIFTS = (
    _shift("gates", "closed_until", where="true"),
    _shift(
        *("channel_users", "due_at", "waiting_due_at", "lease_until", "woken_at"),
        where="""id IN (SELECT id FROM channel_users WHERE due_at IS NOT NULL
            UNION SELECT channel_user_id FROM calls WHERE state = 'intended')""",
    ),
    _shift("deliveries", "due_at", where="due_at IS NOT NULL"),
)
_SHIFT_LIVES = _shift("workers", "alive_until", where="true")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterAges:
    """Seconds since something happened to Postgres; None = never."""

    replaced_s: float | None = None
    """Since it was found to be another one: commits from before may be missing."""
    jumped_s: float | None = None
    """Since its clock jumped."""


class ClusterStore(Store):
    """The row of the table `cluster`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._look = _LOOK

    def is_replaced(self, *, lost: bool = False) -> bool:
        """Return, and record, whether this Postgres is another one; `lost`: commits are missing."""
        try:
            with self._statement() as connection:
                return self.is_other(connection, lost=lost)
        except (DatabaseAwayError, PermanentError) as error:
            if self._look is _LOOK_AT_TABLE or error.code not in _HIDDEN:
                raise
            log.warning("postgres.identity_hidden", error=str(error))
            self._look = _LOOK_AT_TABLE
            return self.is_replaced(lost=lost)

    def is_other(self, connection: Connection, *, lost: bool = False) -> bool:
        """Do the same by a connection that leads there."""
        row = connection.execute(self._look).one()
        if row.identity == row.known and not lost:
            return False
        replaced = lost or row.known is not None
        connection.execute(_KNOW, {"identity": row.identity, "lost": replaced})
        return replaced

    def record_jump(self, by_s: float) -> bool:
        """Record that the clock jumped, and shift the times ahead; False = another process has."""
        with self._database.transaction() as connection:
            if connection.execute(_JUMPED, {"again_s": _AGAIN_S}).one_or_none() is None:
                return False
            # After a jump backward, each heartbeat finds its row as it left it.
            for shift in (*_SHIFTS, _SHIFT_LIVES) if by_s > 0 else _SHIFTS:
                connection.execute(shift, {"by": timedelta(seconds=by_s)})
        return True

    def ages(self) -> ClusterAges:
        """Return how long ago something happened to Postgres."""
        rows = self._found(ClusterAges, _AGES)
        return rows[0] if rows else ClusterAges()
