"""Runs migrations online: one transaction each, with lock and statement timeouts.

The caller passes an open connection in `config.attributes["connection"]` (as the command line and
the tests do), or sets `DATABASE_URL`. The connection must not be in a transaction: an index cannot
be built concurrently within one.
"""

import os

from alembic import context
from sqlalchemy import Connection, event, text

from message_worker_client.postgres import Address
from worker.cli.migrations import connected
from worker.store.schema import Base

LOCK_TIMEOUT = "5s"
"""A migration that cannot get its lock gives up instead of queueing everybody behind it."""
STATEMENT_TIMEOUT = "15min"


def set_timeouts(connection: Connection) -> None:
    """Set them for the transaction that begins, unless each statement is one of its own."""
    driver = connection.connection.driver_connection
    if driver is not None and not driver.autocommit:
        connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))


def migrate(connection: Connection) -> None:
    """Bring the database of `connection` to the requested revision."""
    # In each transaction anew: a setting of the session would stay behind on the connection of a
    # pooler in transaction mode.
    event.listen(connection, "begin", set_timeouts)
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise SystemExit("DATABASE_URL is not set: give postgresql://user@host/database")
    with connected(Address(url)) as connection:
        migrate(connection)
        connection.commit()
