"""A pool's connections that lay idle while the line behind them went dead."""

from collections.abc import Iterator

import pytest
from sqlalchemy import event

from bench.silence import SilentProxy
from tests.support.tcp_proxy import TcpProxy, postgres_socket, through
from worker.domain.errors import DatabaseAwayError
from worker.sandbox.postgres import EmbeddedPostgres
from worker.store.database import Database
from worker.store.sql import sql

ONE = sql("SELECT 1")


@pytest.fixture
def proxy(shared_postgres: EmbeddedPostgres) -> Iterator[SilentProxy]:
    with SilentProxy(postgres_socket(shared_postgres.url)) as made:
        yield made


@pytest.fixture
def database(proxy: SilentProxy) -> Iterator[Database]:
    made = Database(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres")
    yield made
    made.close()


def lie_idle(database: Database) -> None:
    """Have every connection seem not to have been used for long."""
    event.listen(database.pool, "checkin", lambda _, entry: entry.info.update(used_at=-1000.0))


def ask_twice_at_once(database: Database) -> None:
    with database.statement() as one, database.statement() as other:
        assert one.execute(ONE).scalar_one() == other.execute(ONE).scalar_one() == 1


def test_idle_connections_on_a_dead_line_are_made_anew_before_anything_is_sent(
    proxy: SilentProxy, database: Database
) -> None:
    lie_idle(database)
    ask_twice_at_once(database)
    assert proxy.cut() == 2
    ask_twice_at_once(database)


def test_where_one_connection_broke_those_of_its_time_are_not_tried(
    shared_postgres: EmbeddedPostgres,
) -> None:
    with TcpProxy(postgres_socket(shared_postgres.url)) as proxy:
        database = Database(through(proxy, shared_postgres.url))
        ask_twice_at_once(database)
        proxy.reset_all()
        with pytest.raises(DatabaseAwayError), database.statement() as connection:
            connection.execute(ONE)
        ask_twice_at_once(database)
        database.close()
