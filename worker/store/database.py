"""Connections to Postgres: one small pool, bounded waits, and the translation of its errors."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from message_worker_client.postgres import BEGIN, Address
from worker.domain.errors import DatabaseAwayError, PermanentError, named
from worker.net.clock import boottime
from worker.store.rows import Value, value_of
from worker.store.sql import Connection, Row, Rows, Statement

_TIMEOUT_MS = 15_000
"""The longest that sent data may stay unacknowledged by the other side's kernel."""
_IDLE_TIMEOUT_MS = 2_000
_IDLE_S = 5.0
"""A connection that was idle for longer is tested before use, with the shorter timeout."""
_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it
_PARAMETERS = {
    # A half-open connection ends after 10 idle seconds and three probes; by default in two hours.
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": _TIMEOUT_MS,
}
_SETTINGS = {
    "statement_timeout": "15s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
    # A plan cached while the table was small would do sequential scans for hours, and every
    # statement has an index. JIT is off because the few full scans would trigger it.
    "enable_seqscan": "off",
    "jit": "off",
}


_PREPARE_AFTER = 2
"""Uses of a statement before it is prepared; there are few statements, used again and again."""
_LIMIT_EXCEEDED = "54"
"""SQLSTATE class of statements beyond a limit; the driver counts them as operational errors."""


_AWAY = (
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
)
"""Postgres ended a session that slept in a transaction, or takes no writes for the time being; the
driver counts these as internal errors."""


class Database:
    """A pool of connections. End each transaction before any HTTP call.

    `prepare`: statements are parsed and planned once a connection. Not behind a pooler that changes
    the server process: another one may know another statement by the same name.
    """

    def __init__(
        self, url: str, *, pool_size: int = 10, name: str = "worker", prepare: bool = False
    ) -> None:
        self._address = Address(url)
        self._name = name
        self._prepare_after = _PREPARE_AFTER if prepare else None
        self._generation = 0
        self.pool = QueuePool(
            self._connect,  # type: ignore[arg-type] # what a driver's connection is to SQLAlchemy
            pool_size=pool_size,
            max_overflow=0,
            timeout=30,
            # The connection used last is the likeliest to be alive, and has plans in its cache.
            use_lifo=True,
            # No ROLLBACK on return, a round trip each: `_checked_out` drops one left in a
            # transaction.
            reset_on_return=None,
        )
        event.listen(self.pool, "connect", self._note_made)
        event.listen(self.pool, "checkin", _note_used)
        event.listen(self.pool, "checkout", self._refuse_dead)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open one short transaction; commits on leaving, rolls back on an exception.

        Raises `DatabaseAwayError` if Postgres is away or asks to try again; during the commit this
        means that the outcome is unknown, and the next claim reads what was committed.
        """
        with _translated(), self._checked_out() as (driver, begin):
            yield from _transaction(driver, begin)

    @contextmanager
    def statement(self) -> Iterator[Connection]:
        """Check out a connection on which each statement is a transaction of its own."""
        with _translated(), self._checked_out() as (driver, begin):
            if begin == BEGIN:
                yield Connection(driver)
            else:
                yield from _transaction(driver, begin)

    def close(self) -> None:
        """Close every idle connection."""
        self.pool.dispose()

    @contextmanager
    def _checked_out(self) -> Iterator[tuple[psycopg.Connection[Row], bytes]]:
        pooled = self.pool.connect()
        driver: Any = pooled.driver_connection
        made_in = pooled.info["generation"]
        try:
            yield driver, pooled.info["begin"]
        except psycopg.Error as error:
            # After a failover, all connections lead to a server that takes no more writes.
            if driver.broken or isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
                self._leave_generation(made_in)
            # Even if it is intact: a prepared statement may no longer fit the tables.
            pooled.invalidate()
            raise
        finally:
            if pooled.is_valid and driver.info.transaction_status != TransactionStatus.IDLE:
                pooled.invalidate()  # Postgres rolls back when the connection ends
            pooled.close()

    def _leave_generation(self, made_in: int) -> None:
        """Distrust all connections of a generation, unless that has happened already."""
        if made_in == self._generation:
            self._generation = made_in + 1

    def _connect(self) -> psycopg.Connection[Row]:
        return self._address.connect(
            name=self._name,
            settings=_SETTINGS,
            parameters=_PARAMETERS,
            cursor_factory=Rows,
            row_factory=namedtuple_row,
            prepare_threshold=self._prepare_after,
        )

    def _note_made(self, driver: psycopg.Connection[Row], entry: ConnectionPoolEntry) -> None:
        try:
            entry.info["begin"] = self._address.begin(driver)
        except psycopg.Error:
            driver.close()
            raise
        entry.info["generation"] = self._generation
        _note_used(driver, entry)

    def _refuse_dead(
        self, driver: psycopg.Connection[Row], entry: ConnectionPoolEntry, _pooled: object
    ) -> None:
        # One broken connection condemns all older ones: after a restart of Postgres each of them
        # would fail, one caller after the other.
        if entry.info["generation"] == self._generation:
            if boottime() - entry.info["used_at"] < _IDLE_S or _answers(driver):
                return
            self._leave_generation(entry.info["generation"])
        raise DisconnectionError


class Store:
    """Root of the stores. Each method of its own is one statement, a transaction by itself."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _statement(self) -> AbstractContextManager[Connection]:
        return self._database.statement()

    def _rows(self, asked: Statement, values: Mapping[str, object] | None = None) -> list[Row]:
        with self._statement() as connection:
            return connection.execute(asked, values).fetchall()

    def _row(self, asked: Statement, values: Mapping[str, object] | None = None) -> Row | None:
        """Return the only row; None = there is none."""
        with self._statement() as connection:
            return connection.execute(asked, values).one_or_none()

    def _found(
        self, value: type[Value], asked: Statement, values: Mapping[str, object] | None = None
    ) -> tuple[Value, ...]:
        """Return a value from each row, see `value_of`."""
        return tuple(value_of(value, row) for row in self._rows(asked, values))

    def _change(self, change: Statement, values: Mapping[str, object] | None = None) -> int:
        """Execute a statement that returns no rows; return how many it changed."""
        with self._statement() as connection:
            return connection.execute(change, values).rowcount

    def _pages(self, asked: Statement, values: Mapping[str, object]) -> Iterator[Row]:
        """Yield rows page by page: `asked` takes `:after`, the column `place` of the last row."""
        after = 0
        while rows := self._rows(asked, {**values, "after": after}):
            yield from rows
            after = rows[-1].place


def _note_used(_driver: object, entry: ConnectionPoolEntry) -> None:
    entry.info["used_at"] = boottime()


def _answers(driver: psycopg.Connection[Row]) -> bool:
    """Test an idle connection, without a long wait for a dead one."""
    if _USER_TIMEOUT is None or driver.pgconn.host.startswith((b"/", b"@")):
        return True  # a Unix socket cannot be half-open
    try:
        with socket.socket(fileno=os.dup(driver.fileno())) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, _IDLE_TIMEOUT_MS)
            driver.execute(b"SELECT", prepare=False)
            connection.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, _TIMEOUT_MS)
    except (psycopg.Error, OSError):
        return False
    return True


def _transaction(driver: psycopg.Connection[Row], begin: bytes) -> Iterator[Connection]:
    # Not prepared: BEGIN and COMMIT have no plan to keep.
    driver.execute(begin, prepare=False)
    yield Connection(driver)
    # COMMIT of a failed transaction succeeds, and its answer is ROLLBACK.
    if driver.execute(b"COMMIT", prepare=False).statusmessage != "COMMIT":
        raise ValueError("a statement of this transaction had failed unnoticed")


def is_away(error: psycopg.Error) -> bool:
    """Return whether Postgres is away or asks to try again; False = it refuses the statement."""
    if (error.sqlstate or "").startswith(_LIMIT_EXCEEDED):
        return False
    return isinstance(error, (*_AWAY, psycopg.OperationalError, psycopg.InterfaceError))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:  # the pool: none is free, or each is dead
        raise DatabaseAwayError(f"Postgres: {type(error).__name__} of the pool") from error
    except psycopg.IntegrityError:
        raise  # a broken invariant of ours is a bug, and must look like one
    except psycopg.Error as error:
        if is_away(error):
            raise DatabaseAwayError(f"Postgres: {named(error)}") from error
        # `from None`: the driver's message quotes the parameters, and with them personal data.
        text = f"Postgres refused a statement: {named(error)}"
        raise PermanentError(text, code=error.sqlstate) from None
