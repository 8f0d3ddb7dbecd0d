"""Stops processes that are about to change a row, within the transaction, to be killed there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from tests.support.processes import eventually
from tests.support.world import Database

_LOCK = 4711
_HOLD = f"""
CREATE FUNCTION test_hold() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock_shared({_LOCK}); RETURN NEW; END $$
"""
_WAITING = """
SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a table: `INSERT` or `UPDATE`, and when it counts, of OLD and NEW."""

    table: str
    kind: str
    when: str = "true"


@dataclass(frozen=True)
class Held:
    """Those who are stopped."""

    database: Database

    def wait(self) -> None:
        """Wait until somebody is."""
        assert eventually(lambda: bool(self.database.rows(_WAITING))), "nobody came so far"

    def undo(self) -> None:
        """Let their transactions end as if the server had lost them with the client."""
        self.database.run(f"SELECT pg_terminate_backend(pid) FROM ({_WAITING}) AS held")
        assert eventually(lambda: not self.database.rows(_WAITING))


@contextmanager
def held(database: Database, change: Change) -> Iterator[Held]:
    """Hold everybody before this change; at the end they go on."""
    made = sql.SQL("CREATE TRIGGER test_hold BEFORE {} ON {} FOR EACH ROW WHEN ({})").format(
        sql.SQL(change.kind),  # type: ignore[arg-type]
        sql.Identifier(change.table),
        sql.SQL(change.when),  # type: ignore[arg-type]
    )
    with psycopg.connect(database.url, autocommit=True) as holding:
        holding.execute(f"SELECT pg_advisory_lock({_LOCK})")  # type: ignore[arg-type]
        holding.execute(_HOLD)  # type: ignore[arg-type]
        holding.execute(made + sql.SQL(" EXECUTE FUNCTION test_hold()"))
        try:
            yield Held(database)
        finally:
            holding.execute(f"SELECT pg_advisory_unlock({_LOCK})")  # type: ignore[arg-type]
            holding.execute("DROP FUNCTION test_hold() CASCADE")
