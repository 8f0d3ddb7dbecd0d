"""Connections to Postgres: one small pool, bounded waits, and the translation of its errors."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from threading import BoundedSemaphore

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row

from message_worker_client.postgres import BEGIN, Address
from worker.domain.errors import DatabaseAwayError, PermanentError, named
from worker.net.clock import boottime
from worker.store.rows import Value, value_of
from worker.store.sql import Connection, Row, Rows, Statement, sql
from worker.store.sqlstates import fix_of, is_away

_TIMEOUT_MS = 15_000
"""The longest that sent data may stay unacknowledged by the other side's kernel."""
_IDLE_TIMEOUT_MS = 2_000
_IDLE_S = 6.0
"""A connection that was idle for longer is tested before use, with the shorter timeout. It is more
than the time between heartbeats: a test is a round trip, too."""
_UNUSED_S = 60.0
"""A connection that was idle for longer is closed: those of a burst, in all processes, are many."""
_FREE_TIMEOUT_S = 30.0
"""The longest that a thread waits until another one gives its connection back."""
_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it
PARAMETERS = {
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

_SECRET = sql("SELECT value FROM secrets WHERE name = :name")
_PREPARE_AFTER = 2
"""Uses of a statement before it is prepared; there are few statements, used again and again."""


@dataclass(slots=True, kw_only=True)
class _Pooled:
    """A connection of the pool."""

    driver: psycopg.Connection[Row]
    begin: bytes
    """The statements that begin a transaction on it."""
    generation: int
    used_at: float
    """By `boottime`."""


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
        self.on_connect: Callable[[Connection], object] | None = None
        """Called with each new connection: it may lead to another Postgres than those before."""
        self._free = BoundedSemaphore(pool_size)
        # A stack: the one used last is the likeliest to be alive, and has plans in its cache.
        self._idle: list[_Pooled] = []
        self._secrets: dict[str, bytes] = {}

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
            yield from _statement(driver, begin)

    @property
    def consent_key(self) -> bytes:
        """The key of the addresses in the ledger of opt-outs."""
        return self.secret("consents")

    def secret(self, name: str) -> bytes:
        """Return a key, read once. Raises `DatabaseAwayError` if its row is lost."""
        if name not in self._secrets:
            with self.statement() as connection:
                key = connection.execute(_SECRET, {"name": name}).scalar_one_or_none()
            if key is None:
                # Not a fault of any message: they wait until somebody has restored it.
                raise DatabaseAwayError(f"the table secrets has lost the row `{name}`: restore it")
            self._secrets[name] = bytes(key)
        return self._secrets[name]

    def close(self) -> None:
        """Close every idle connection."""
        while self._idle:
            self._idle.pop().driver.close()

    def close_idle(self) -> None:
        """Close connections that nobody has used for a minute."""
        # The oldest is at the bottom. Another thread may take the last one in between.
        with suppress(IndexError):
            while boottime() - self._idle[0].used_at >= _UNUSED_S:
                self._idle.pop(0).driver.close()

    @contextmanager
    def _checked_out(self) -> Iterator[tuple[psycopg.Connection[Row], bytes]]:
        if not self._free.acquire(timeout=_FREE_TIMEOUT_S):
            raise DatabaseAwayError("Postgres: no connection of the pool became free")
        try:
            pooled = self._living() or self._connect()
            try:
                yield pooled.driver, pooled.begin
            except psycopg.Error as error:
                # After a failover, all connections lead to a server that takes no more writes.
                if pooled.driver.broken or isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
                    self._leave_generation(pooled.generation)
                # Even if it is intact: a prepared statement may no longer fit the tables.
                pooled.driver.close()
                raise
            finally:
                # One left in a transaction is not kept: Postgres rolls back when it is closed.
                if pooled.driver.info.transaction_status == TransactionStatus.IDLE:
                    pooled.used_at = boottime()
                    self._idle.append(pooled)
                else:
                    pooled.driver.close()
        finally:
            self._free.release()

    def _leave_generation(self, made_in: int) -> None:
        """Distrust all connections of a generation, unless that has happened already."""
        if made_in == self._generation:
            self._generation = made_in + 1

    def _connect(self) -> _Pooled:
        generation = self._generation
        driver: psycopg.Connection[Row] = self._address.connect(
            name=self._name,
            settings=_SETTINGS,
            parameters=PARAMETERS,
            cursor_factory=Rows,
            row_factory=namedtuple_row,
            prepare_threshold=self._prepare_after,
        )
        try:
            begin = self._address.begin(driver)
            if self.on_connect is not None:
                with contextmanager(_statement)(driver, begin) as connection:
                    self.on_connect(connection)
        except BaseException:
            driver.close()
            raise
        return _Pooled(driver=driver, begin=begin, generation=generation, used_at=boottime())

    def _living(self) -> _Pooled | None:
        """Take an idle connection that works; close those that do not."""
        # Another thread may take the last one in between.
        with suppress(IndexError):
            while True:
                pooled = self._idle.pop()
                # One broken connection condemns all older ones: after a restart of Postgres each
                # of them would fail, one caller after the other.
                if pooled.generation == self._generation:
                    if boottime() - pooled.used_at < _IDLE_S or _answers(pooled.driver):
                        return pooled
                    self._leave_generation(pooled.generation)
                pooled.driver.close()
        return None


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


def _statement(driver: psycopg.Connection[Row], begin: bytes) -> Iterator[Connection]:
    if begin == BEGIN:
        yield Connection(driver)
    else:
        yield from _transaction(driver, begin)


def _transaction(driver: psycopg.Connection[Row], begin: bytes) -> Iterator[Connection]:
    # Not prepared: BEGIN and COMMIT have no plan to keep.
    driver.execute(begin, prepare=False)
    try:
        yield Connection(driver)
    except Exception:
        # Closing the connection would release the locks only when Postgres notices: the same work,
        # tried again at once, would find them taken.
        if not driver.broken:
            with suppress(psycopg.Error):
                driver.execute(b"ROLLBACK", prepare=False)
        raise
    # COMMIT of a failed transaction succeeds, and its answer is ROLLBACK.
    if driver.execute(b"COMMIT", prepare=False).statusmessage != "COMMIT":
        raise ValueError("a statement of this transaction had failed unnoticed")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.IntegrityError:
        raise  # a broken invariant of ours is a bug, and must look like one
    except psycopg.Error as error:
        if is_away(error):
            away = DatabaseAwayError(f"Postgres: {named(error)}", code=error.sqlstate)
            away.fix = fix_of(error.sqlstate)
            raise away from error
        # `from None`: the driver's message quotes the parameters, and with them personal data.
        text = f"Postgres refused a statement: {named(error)}"
        raise PermanentError(text, code=error.sqlstate) from None
