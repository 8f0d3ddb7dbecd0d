"""Connections that went dead, or of no use, while they lay in the pool or were out of it."""

import select
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest

from bench.silence import SilentProxy
from tests.support.processes import eventually
from tests.support.tcp_proxy import TcpProxy, postgres_socket, through
from worker.domain.errors import DatabaseAwayError, PermanentError
from worker.sandbox.postgres import EmbeddedPostgres
from worker.store.database import Database
from worker.store.sql import Statement, sql

ONE = sql("SELECT 1")
END_MYSELF = sql("SELECT pg_terminate_backend(pg_backend_pid())")


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
    """Have every idle connection seem not to have been used for long."""
    for pooled in database._idle:
        pooled.used_at = -1000.0


def ask_twice_at_once(database: Database) -> None:
    with database.statement() as one, database.statement() as other:
        assert one.execute(ONE).scalar_one() == other.execute(ONE).scalar_one() == 1


def test_idle_connections_on_a_dead_line_are_made_anew_before_anything_is_sent(
    proxy: SilentProxy, database: Database
) -> None:
    ask_twice_at_once(database)
    lie_idle(database)
    assert proxy.cut() == 2
    ask_twice_at_once(database)


def test_connections_that_nobody_has_used_for_long_are_closed(database: Database) -> None:
    ask_twice_at_once(database)
    lie_idle(database)
    with database.statement() as one:
        one.execute(ONE)
    database.close_idle()
    assert len(database._idle) == 1, "the one that was used again"


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


def test_five_that_break_at_once_are_made_anew_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    connect = database._connect
    monkeypatch.setattr(database, "_connect", lambda: made.append(1) or connect())
    everybody_is_out = threading.Barrier(5)

    def ask(question: Statement) -> None:
        with database.statement() as connection:
            everybody_is_out.wait(30)
            connection.execute(question)

    with ThreadPoolExecutor(5) as threads:
        broken = [threads.submit(ask, END_MYSELF) for _ in range(5)]
        assert {type(one.exception()) for one in broken} == {DatabaseAwayError}
        list(threads.map(ask, [ONE] * 5))
    assert len(made) == 10


def test_a_process_that_slept_in_a_transaction_finds_postgres_away(database: Database) -> None:
    def sleep() -> None:
        with database.transaction() as connection:
            connection.execute(sql("SET LOCAL idle_in_transaction_session_timeout = 1"))
            assert eventually(lambda: is_readable(connection.driver.fileno()))
            connection.execute(ONE)

    with pytest.raises(DatabaseAwayError):
        sleep()


def is_readable(descriptor: int) -> bool:
    """Whether the other side has said something, or hung up."""
    return bool(select.select([descriptor], [], [], 0)[0])


def test_a_prepared_statement_that_no_longer_fits_the_tables_is_not_kept(
    database_url: str,
) -> None:
    database = Database(database_url, prepare=True)
    every = sql("SELECT * FROM gates")

    def ask() -> None:
        with database.statement() as connection:
            connection.execute(every)

    for _ in range(5):
        ask()
    with database.statement() as connection:
        connection.execute(sql("ALTER TABLE gates ADD COLUMN more text"))
    with suppress(PermanentError):
        ask()
    ask()
    database.close()


def test_a_failure_that_nobody_looked_at_does_not_pass_for_a_commit(database: Database) -> None:
    def overlook() -> None:
        with database.transaction() as connection, suppress(psycopg.Error):
            connection.execute(sql("SELECT 1 / 0"))

    with pytest.raises(ValueError, match="failed unnoticed"):
        overlook()


@pytest.mark.parametrize("failure", ["of ours", "of Postgres"])
def test_what_failed_holds_no_lock_for_the_next_one(
    shared_postgres: EmbeddedPostgres, failure: str
) -> None:
    """The end of a connection is noticed later: a drain that starts again found the inbox held."""
    lock = sql("SELECT pg_try_advisory_xact_lock(4711)")
    database, next_one = Database(shared_postgres.url), Database(shared_postgres.url)
    try:
        for _ in range(20):
            with suppress(ValueError, PermanentError), database.transaction() as connection:
                assert connection.execute(lock).scalar_one()
                connection.execute(sql("SELECT 1/0")) if failure == "of Postgres" else int("x")
            with next_one.transaction() as connection:
                assert connection.execute(lock).scalar_one(), "it was still held"
    finally:
        database.close()
        next_one.close()
