"""Brings a database to the newest migration, through Alembic."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Final

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError

from message_worker_client.postgres import Address
from worker.cli.errors import CommandError
from worker.cli.revision import revision_of, revisions, wrong_with
from worker.store.revisions import migrations_folder

_PAUSE_S: Final = 0.1
_WAIT_S: Final = 120.0
"""For how long a migration waits for another one."""
# Alembic's own table, as Alembic makes it. It is there before the first migration, and only a role
# that may change it can take this lock: an advisory lock could be taken by any role.
_VERSIONS: Final = b"""
CREATE TABLE IF NOT EXISTS alembic_version (
    version_num varchar(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))
"""
# Each is bounded, and waits without a snapshot: an index that is built concurrently waits for those
# of others, so a waiting SELECT and it would wait for each other.
_TAKE: Final = (
    b"SET LOCAL lock_timeout = '500ms'",
    b"SET LOCAL statement_timeout = 0",
    b"LOCK TABLE alembic_version IN SHARE UPDATE EXCLUSIVE MODE",
    # It stays open until the last migration has ended.
    b"SET LOCAL idle_in_transaction_session_timeout = 0",
    # Postgres 17 has this one, too.
    b"SELECT set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout'",
)
_HOLDER: Final = b"""
SELECT concat_ws(' ', 'process', a.pid, 'of', a.usename, nullif(a.application_name, ''))
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.relation = to_regclass('alembic_version') AND l.granted AND a.pid <> pg_backend_pid()
    AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
ORDER BY a.xact_start LIMIT 1
"""


def upgrade(database_url: str, target: str = "head", *, as_sql: bool = False) -> None:
    """Bring the database to the newest migration, or print the SQL. Raises `CommandError`."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    # At INFO Alembic logs each step, between the lines that this command prints.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    address = Address(database_url)
    # Who may only read can still run this where nothing is missing.
    *older, newest = revisions()
    current = revision_of(database_url)
    if target == "head" and current == newest:
        return
    if current not in {None, *older, newest}:
        raise CommandError(wrong_with(current))
    try:
        with nullcontext() if as_sql else _alone(address), connected(address) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, target, sql=as_sql)
            connection.commit()
    except (psycopg.OperationalError, OperationalError) as error:
        kind = type(error.orig if isinstance(error, OperationalError) else error).__name__
        raise CommandError(f"Postgres: {kind}, nothing of this migration was kept") from error
    except psycopg.Error as error:
        raise CommandError(f"Postgres refused the migration: {error}") from error
    except DBAPIError as error:
        raise CommandError(f"the migration failed and was undone: {error.orig}") from error


@contextmanager
def _alone(address: Address) -> Iterator[None]:
    """Keep other migrations out, by a transaction that stays open on a connection of its own.

    A lock of the session would stay behind on the connection of a pooler in transaction mode.
    Raises `CommandError` if another migration does not end in time.
    """
    deadline = time.monotonic() + _WAIT_S
    with address.connect(name="worker-migrate", settings={}) as connection:
        # Two that create it at the same time: one of them fails, and the table is there.
        with suppress(psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
            connection.execute(_VERSIONS)
        while not _try(connection):
            found = connection.execute(_HOLDER).fetchone()
            if time.monotonic() > deadline:
                holder = found[0] if found else "it has just ended, run this again"
                raise CommandError(f"another migration is running: {holder}")
            # Between the attempts, vacuum gets its turn.
            time.sleep(_PAUSE_S)
        try:
            yield
        finally:
            connection.close()


def _try(connection: psycopg.Connection[Any]) -> bool:
    connection.execute(b"BEGIN")
    try:
        for statement in _TAKE:
            connection.execute(statement)
    except psycopg.errors.LockNotAvailable:
        connection.execute(b"ROLLBACK")
        return False
    return True


@contextmanager
def connected(address: Address) -> Iterator[Connection]:
    """Open SQLAlchemy's connection for Alembic."""
    missing: tuple[bytes, ...] = ()

    def connect() -> psycopg.Connection[Any]:
        nonlocal missing
        # No timeouts: an index that is built concurrently waits long, and delays nobody.
        unlimited = {"statement_timeout": "0", "lock_timeout": "0"}
        opened = address.connect(name="worker-migrate", settings=unlimited)
        try:
            missing = address.missing(opened)
            opened.autocommit = False
        except psycopg.Error:
            opened.close()
            raise
        # An index cannot be built concurrently within a transaction, which could set it.
        if any(b" search_path " in one for one in missing):
            opened.close()
            raise CommandError(
                "a pooler drops search_path: set LISTEN_DATABASE_URL to the address of"
                " Postgres itself, with the same options"
            )
        return opened

    def set_missing(connection: Connection) -> None:
        for statement in missing:
            connection.exec_driver_sql(statement.decode())

    # Alembic needs SQLAlchemy's connections.
    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
    event.listen(engine, "begin", set_missing)
    with engine.connect() as connection:
        yield connection
