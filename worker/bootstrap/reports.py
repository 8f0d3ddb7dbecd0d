"""Opens the database for commands that only read; imports little, as a health check runs often."""

from collections.abc import Iterator
from contextlib import contextmanager

from worker.config.settings import Need, Settings, settings_for
from worker.store.database import Database


@contextmanager
def reading(*needs: Need, name: str = "worker-cli") -> Iterator[tuple[Settings, Database]]:
    """Read the settings, and open their database, see below. Raises `SettingsError`."""
    settings = settings_for(*needs)
    with open_database(settings.database_url, name=name) as database:
        yield settings, database


@contextmanager
def open_database(
    url: str, *, name: str = "worker-cli", prepare: bool = False, pool_size: int = 1
) -> Iterator[Database]:
    """Open a pool and close it afterwards. Of one connection, use stores one after the other.

    `name` appears in `pg_stat_activity`. `prepare`: see `Database`. Raises `AddressError` if `url`
    is no address of Postgres.
    """
    database = Database(url, pool_size=pool_size, name=name, prepare=prepare)
    try:
        yield database
    finally:
        database.close()
