"""Runs migrations online: one transaction each, with lock and statement timeouts.

The caller passes an open connection in `config.attributes["connection"]` (as the command line and
the tests do), or sets `DATABASE_URL`. The connection must not be in a transaction: an index cannot
be built concurrently within one.
"""

import os

from alembic import context
from sqlalchemy import Connection, create_engine, text

from worker.store.schema import Base

LOCK_TIMEOUT = "5s"
"""A migration that cannot get its lock gives up instead of queueing everybody behind it."""
STATEMENT_TIMEOUT = "15min"


def migrate(connection: Connection) -> None:
    """Bring the database of `connection` to the requested revision."""
    # For the session: `SET LOCAL` would end with the first migration's transaction.
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
    connection.commit()
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
    engine = create_engine(url)
    with engine.connect() as connection:
        migrate(connection)
        connection.commit()
    engine.dispose()
