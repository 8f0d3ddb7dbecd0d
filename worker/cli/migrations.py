"""`worker migrate`, and whether a database is at the migration that this version needs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from worker.bootstrap.reports import open_database
from worker.cli.errors import CommandError, MisuseError
from worker.store.reports.status import StatusStore

_LOCK: Final = 7_733_571_002
"""Number of a Postgres advisory lock: two migrations at once run one after the other."""


def require_newest(database_url: str) -> None:
    """Raise `CommandError` unless the database is at the newest migration."""
    current, head = revision_of(database_url), head_revision()
    if current != head:
        raise MisuseError(
            f"the database of DATABASE_URL is at {current or 'nothing yet'}, this version needs "
            f"{head}: run `worker migrate`, or `worker up --migrate`"
        )


def revision_of(database_url: str) -> str | None:
    """Return the database's migration. Raises `RetryableError` if Postgres is away."""
    with open_database(database_url) as database:
        return StatusStore(database).revision()


def head_revision() -> str:
    """Return the newest migration. Raises `CommandError` if there are no migrations."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if head is None:
        raise CommandError("there are no migrations in migrations/versions")
    return head


def alembic_config() -> Config:
    """Return Alembic's configuration: the checkout's migrations, or those of the wheel."""
    root = Path(__file__).parents[2]
    folder = root / "migrations" if (root / "alembic.ini").exists() else root / "worker/migrations"
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def upgrade(database_url: str, target: str = "head", *, as_sql: bool = False) -> None:
    """Bring the database to the newest migration, or print the SQL. Raises `CommandError`."""
    config = alembic_config()
    # At INFO Alembic logs each step, between the lines that this command prints.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        with _connected(database_url) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, target, sql=as_sql)
            connection.commit()
    except OperationalError as error:
        kind = type(error.orig).__name__
        raise CommandError(f"Postgres: {kind}, nothing of this migration was kept") from error
    except DBAPIError as error:
        raise CommandError(f"the migration failed and was undone: {error.orig}") from error


@contextmanager
def _connected(database_url: str) -> Iterator[Connection]:
    # An engine of its own: Alembic needs SQLAlchemy's connections, and no statement timeout, as an
    # index on a large table takes its time. Each migration sets its own timeouts.
    engine = create_engine(database_url, connect_args={"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            # The lock is the session's, so it outlives this; Alembic begins its own transaction.
            connection.commit()
            yield connection
    finally:
        engine.dispose()
