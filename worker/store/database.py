"""The way to Postgres: one small pool, bounded waits, and the one place that knows its errors."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row
from sqlalchemy import event, make_url
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from worker.domain.errors import DatabaseAwayError, PermanentError
from worker.net.clock import boottime
from worker.store.sql import Connection, Row, Rows, libpq_url

_TIMEOUT_MS = 15_000
"""So long may sent data stay without an acknowledgement of the other side's kernel."""
_IDLE_TIMEOUT_MS = 2_000
_IDLE_S = 5.0
"""A connection that was not used for so long is asked first, with the shorter timeout."""
_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it
_CONNECT_ARGS: dict[str, Any] = {
    "connect_timeout": 5,
    # A half-open connection ends by itself: 10 s idle, then three probes.
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": _TIMEOUT_MS,
    "options": (
        "-c statement_timeout=15s -c lock_timeout=10s -c idle_in_transaction_session_timeout=30s"
        # A plan is kept as long as its connection. Made while a table is small or its statistics
        # are old, it would read the whole table for hours; and each statement has its index.
        # Where one reads it all on purpose, its cost must not look like something to compile for.
        " -c enable_seqscan=off -c jit=off"
    ),
}


_PREPARE_AFTER = 2
"""So many times a statement is sent as it is; there are few, and they come again and again."""
_LIMIT_EXCEEDED = "54"
"""SQLSTATE's class of statements that no Postgres takes; the driver counts them as operational."""


_AWAY = (psycopg.errors.IdleInTransactionSessionTimeout, psycopg.errors.TransactionTimeout)
"""Postgres has hung up on a process that slept in a transaction; the driver calls it internal."""


class Database:
    """A pool of connections. Give each transaction back before any HTTP call.

    `prepare`: statements are parsed and planned once a connection. Not where a pooler may change
    the server process behind it: another one may know another statement by the same name.
    """

    def __init__(
        self, url: str, *, pool_size: int = 10, name: str = "worker", prepare: bool = False
    ) -> None:
        make_url(url)  # raises ArgumentError or ValueError: libpq would say it only when connecting
        self._url = libpq_url(url)
        self._name = name
        self._prepare_after = _PREPARE_AFTER if prepare else None
        self._generation = 0
        self.pool = QueuePool(
            self._connect,  # type: ignore[arg-type] # what a driver's connection is to SQLAlchemy
            pool_size=pool_size,
            max_overflow=0,
            timeout=30,
            use_lifo=True,
            reset_on_return=None,
        )
        event.listen(self.pool, "connect", self._note_made)
        event.listen(self.pool, "checkin", _note_used)
        event.listen(self.pool, "checkout", self._refuse_dead)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open one short transaction; commits on leaving, rolls back on an exception.

        Raises `DatabaseAwayError` when Postgres is away or asks to try again; where that happened
        during the commit, the outcome is unknown and the next claim reads the truth.
        """
        with _translated(), self._checked_out() as driver:
            driver.execute(b"BEGIN", prepare=False)
            yield Connection(driver)
            if driver.execute(b"COMMIT", prepare=False).statusmessage != "COMMIT":
                raise ValueError("a statement of this transaction had failed, and nobody looked")

    @contextmanager
    def statement(self) -> Iterator[Connection]:
        """Have a connection on which each statement is a transaction of its own."""
        with _translated(), self._checked_out() as driver:
            yield Connection(driver)

    def close(self) -> None:
        """Close every idle connection."""
        self.pool.dispose()

    @contextmanager
    def _checked_out(self) -> Iterator[psycopg.Connection[Row]]:
        pooled = self.pool.connect()
        driver: Any = pooled.driver_connection
        made_in = pooled.info["generation"]
        try:
            yield driver
        except psycopg.Error:
            if driver.broken:
                self._leave_generation(made_in)
            # Also where it is whole: a prepared statement may no longer fit the tables.
            pooled.invalidate()
            raise
        finally:
            if pooled.is_valid and driver.info.transaction_status != TransactionStatus.IDLE:
                pooled.invalidate()  # what was begun is over with the connection
            pooled.close()

    def _leave_generation(self, made_in: int) -> None:
        """Distrust all connections that were made in it; others were made since."""
        if made_in == self._generation:
            self._generation = made_in + 1

    def _connect(self) -> psycopg.Connection[Row]:
        return psycopg.connect(
            self._url,
            autocommit=True,
            cursor_factory=Rows,
            row_factory=namedtuple_row,
            prepare_threshold=self._prepare_after,
            application_name=self._name,
            **_CONNECT_ARGS,
        )

    def _note_made(self, driver: object, entry: ConnectionPoolEntry) -> None:
        entry.info["generation"] = self._generation
        _note_used(driver, entry)

    # Where one connection broke, those that were made before are not tried one after the other.
    def _refuse_dead(
        self, driver: psycopg.Connection[Row], entry: ConnectionPoolEntry, _pooled: object
    ) -> None:
        if entry.info["generation"] == self._generation:
            if boottime() - entry.info["used_at"] < _IDLE_S or _answers(driver):
                return
            self._leave_generation(entry.info["generation"])
        raise DisconnectionError


def _note_used(_driver: object, entry: ConnectionPoolEntry) -> None:
    entry.info["used_at"] = boottime()


def _answers(driver: psycopg.Connection[Row]) -> bool:
    """Ask something over a connection that lay idle, and do not wait long for a dead line."""
    if _USER_TIMEOUT is None or driver.pgconn.host.startswith((b"/", b"@")):
        return True  # or a Unix socket, which has no line
    try:
        with socket.socket(fileno=os.dup(driver.fileno())) as line:
            line.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, _IDLE_TIMEOUT_MS)
            driver.execute(b"SELECT", prepare=False)
            line.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, _TIMEOUT_MS)
    except (psycopg.Error, OSError):
        return False
    return True


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (*_AWAY, psycopg.OperationalError, psycopg.InterfaceError) as error:
        if (error.sqlstate or "").startswith(_LIMIT_EXCEEDED):
            raise PermanentError(f"Postgres refused a statement: {_kind(error)}") from None
        raise DatabaseAwayError(f"Postgres: {_kind(error)}") from error
    except SQLAlchemyError as error:  # the pool: none is free, or each was dead
        raise DatabaseAwayError(f"Postgres: {type(error).__name__} of the pool") from error
    except psycopg.IntegrityError:
        raise  # a broken invariant of ours: a bug, and it must look like one
    except psycopg.Error as error:
        # `from None`: the driver's message quotes the parameters, and with them what people wrote.
        raise PermanentError(f"Postgres refused a statement: {_kind(error)}") from None


def _kind(error: psycopg.Error) -> str:
    return f"{type(error).__name__} {error.sqlstate or ''}".strip()
