"""Locks for work that one process does at a time: each is a row of `locks`.

Not advisory locks: any role of the database can take those and keep them. A role without rights to
this table cannot lock its rows. Each lock ends with its transaction.
"""

from typing import Final, Literal, TypeAlias

import psycopg

from worker.domain.errors import DatabaseAwayError
from worker.store.sql import Connection, sql

Lock: TypeAlias = Literal["inbox", "retention", "cores"]

_WAIT_S: Final = 10
_TRY = sql("SELECT name FROM locks WHERE name = :name FOR UPDATE SKIP LOCKED")
# The row is made when it is first needed; nobody can have locked a row that is not there.
_MAKE = sql("""
INSERT INTO locks (name) VALUES (:name) ON CONFLICT (name) DO NOTHING RETURNING name
""")
# Waits until the process that has the row ends its transaction.
_TAKE = sql("""
INSERT INTO locks (name) VALUES (:name) ON CONFLICT (name) DO UPDATE SET name = excluded.name
""")
_HOLDER = sql("""
SELECT concat_ws(' ', 'process', a.pid, 'of', a.usename, nullif(a.application_name, ''))
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.relation = CAST('locks' AS regclass) AND l.granted AND a.pid <> pg_backend_pid()
ORDER BY a.xact_start LIMIT 1
""")


class HeldError(DatabaseAwayError):
    """Another process kept a lock for too long."""


def try_lock(connection: Connection, name: Lock) -> bool:
    """Take a lock if it is free; return whether this transaction has it now."""
    values = {"name": name}
    return any(connection.execute(one, values).one_or_none() for one in (_TRY, _MAKE))


def wait_lock(connection: Connection, name: str) -> None:
    """Take a lock; wait for it for ten seconds. Raises `HeldError`, which names the holder."""
    driver = connection.driver
    # The savepoint keeps the transaction usable; with it, the timeout's old value comes back.
    try:
        with driver.transaction():
            driver.execute(f"SET LOCAL lock_timeout = '{_WAIT_S}s'".encode(), prepare=False)
            connection.execute(_TAKE, {"name": name})
            driver.execute(b"SET LOCAL lock_timeout = DEFAULT", prepare=False)
    except psycopg.errors.LockNotAvailable:
        held = holder(connection) or "a process that has just ended"
    else:
        return
    raise HeldError(f"the lock `{name}` was held for {_WAIT_S} s by {held}")


def holder(connection: Connection) -> str | None:
    """Return who holds one of the locks, for a log; None = nobody does."""
    found: str | None = connection.execute(_HOLDER).scalar_one_or_none()
    return found
