"""The way to Postgres: one small pool, bounded waits, and the one place that knows its errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from worker.domain.errors import DatabaseAwayError, PermanentError

_CONNECT_ARGS: dict[str, object] = {
    "connect_timeout": 5,
    # A half-open connection ends by itself: 10 s idle, then three probes.
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "options": (
        "-c statement_timeout=15s -c lock_timeout=10s -c idle_in_transaction_session_timeout=30s"
    ),
}


_PREPARE_AFTER = 2
"""So many times a statement is sent as it is; there are few, and they come again and again."""
_LIMIT_EXCEEDED = "54"
"""SQLSTATE's class of statements that no Postgres takes; the driver counts them as operational."""


class Database:
    """A pool of connections. Give each transaction back before any HTTP call.

    `prepare`: statements are parsed and planned once a connection. Not where a pooler may change
    the server process behind it: another one may know another statement by the same name.
    """

    def __init__(
        self, url: str, *, pool_size: int = 10, name: str = "worker", prepare: bool = False
    ) -> None:
        self._engine: Engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=30,
            pool_use_lifo=True,
            connect_args={
                **_CONNECT_ARGS,
                "application_name": name,
                "prepare_threshold": _PREPARE_AFTER if prepare else None,
            },
        )
        self._autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open one short transaction; commits on leaving, rolls back on an exception.

        Raises `DatabaseAwayError` when Postgres is away or asks to try again; where that happened
        during the commit, the outcome is unknown and the next claim reads the truth.
        """
        with _translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def statement(self) -> Iterator[Connection]:
        """Open a connection on which each statement is a transaction of its own."""
        with _translated(), self._autocommit.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close every idle connection."""
        self._engine.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        if _sqlstate(error).startswith(_LIMIT_EXCEEDED):
            raise PermanentError(f"Postgres refused a statement: {_kind(error)}") from None
        raise DatabaseAwayError(f"Postgres: {_kind(error)}") from error
    except IntegrityError:
        raise  # a broken invariant of ours: a bug, and it must look like one
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseAwayError(f"Postgres: {_kind(error)}") from error
        # `from None`: the driver's message quotes the parameters, and with them what people wrote.
        raise PermanentError(f"Postgres refused a statement: {_kind(error)}") from None


def _sqlstate(error: Exception) -> str:
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def _kind(error: Exception) -> str:
    origin = getattr(error, "orig", None)
    return f"{type(origin or error).__name__} {_sqlstate(error)}".strip()
