"""Builds the counts that commands read most often; imports little, as a health check runs often."""

from collections.abc import Iterator
from contextlib import contextmanager

from worker.store.database import Database
from worker.store.reports.gauges import GaugeStore
from worker.store.reports.status import StatusStore


class Counts:
    """Counts over Postgres. They share one connection: use them one after the other."""

    def __init__(self, database: Database, *, is_bounded: bool = False) -> None:
        self.status = StatusStore(database, is_bounded=is_bounded)
        self.gauges = GaugeStore(database)


@contextmanager
def open_database(url: str, *, name: str = "worker-cli") -> Iterator[Database]:
    """Open a pool of one connection and close it afterwards.

    `name` appears in `pg_stat_activity`. Raises `ArgumentError` or `ValueError` if `url` is no
    address of Postgres.
    """
    database = Database(url, pool_size=1, name=name)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def open_counts(
    url: str, *, name: str = "worker-cli", is_bounded: bool = False
) -> Iterator[Counts]:
    """Open the counts over a pool of one connection and close it afterwards.

    `is_bounded`: those of `status` give up after two seconds, as those of `gauges` always do.
    """
    with open_database(url, name=name) as database:
        yield Counts(database, is_bounded=is_bounded)
