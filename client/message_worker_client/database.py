"""The way in through Postgres: the function `enqueue_message`, a batch in one transaction."""

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from message_worker_client.broker import NotConfirmedError
from message_worker_client.message import Checked, ProducerError, no_driver

if TYPE_CHECKING:
    import psycopg

    from message_worker_client.postgres import Address

_ENQUEUE: Final = b"""
    SELECT enqueue_message(one.envelope)
    FROM jsonb_array_elements(%s::text::jsonb) WITH ORDINALITY AS one (envelope, place)
    ORDER BY one.place
"""
_WAITS: Final = 3
"""Waits within the timeout: for a dead connection, for a new one, for its answer."""
_FIXES: Final = {
    "42883": "the database has no function enqueue_message: run `worker migrate`",
    "42501": "this database user may not call enqueue_message: GRANT worker_producer TO it",
}


def read_address(url: str) -> "Address":
    """Read an address of Postgres, as the service does. Raises `ProducerError`."""
    try:
        # Here, as a producer for the broker needs no driver.
        from message_worker_client.postgres import Address, AddressError  # noqa: PLC0415
    except ImportError:
        raise no_driver() from None
    try:
        return Address(url)
    except AddressError as error:
        raise ProducerError(f"database_url: {error}", field="database_url") from None


class DatabaseWay:
    """One connection to Postgres, opened by the first message and again after a failure."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._address = read_address(url)
        self._begin = b""
        self._timeout_s = timeout_s
        self._connection: psycopg.Connection | None = None
        self._pid = 0

    def publish(self, messages: Sequence[Checked]) -> list[int]:
        """Put messages into the inbox, all or none; return their ids there.

        Raises `NotConfirmedError`, and `ProducerError` for a fault that stays.
        """
        import psycopg  # noqa: PLC0415 - a producer for the broker needs no driver

        from message_worker_client.postgres import fetch_all  # noqa: PLC0415

        # After a fork the socket is the parent's, who goes on to use it.
        if self._pid != os.getpid():
            self._connection = None
        stale, begun = self._connection is not None, False
        document = f"[{','.join(message.text for message in messages)}]"
        try:
            connection = self._connection or self._connect()
            begun = True
            with self._bounded(connection):
                rows = fetch_all(connection, self._begin, _ENQUEUE, (document,))
        except psycopg.Error as error:
            kind, state = type(error).__name__, error.sqlstate or ""
        else:
            return [row[0] for row in rows]
        # Not inside the handler: the driver's message may quote an envelope.
        self.close()
        if state in _FIXES:
            raise ProducerError(_FIXES[state])
        if state.startswith(("22", "23", "P0")):
            raise ProducerError(f"envelope: the database refused it ({state})", field="envelope")
        raise NotConfirmedError(kind, sent=begun, stale=stale)

    def close(self) -> None:
        """Hang up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> "psycopg.Connection":
        self._pid = os.getpid()
        self._connection = self._address.connect(
            name="message-worker-client",
            parameters={"connect_timeout": max(2, int(self._timeout_s / _WAITS))},
        )
        with self._bounded(self._connection):
            self._begin = self._address.begin(self._connection)
        return self._connection

    @contextmanager
    def _bounded(self, connection: "psycopg.Connection") -> Iterator[None]:
        """Cut the connection when it takes too long: libpq waits for ever on a half-open one."""
        timer = threading.Timer(self._timeout_s / _WAITS, _cut, (connection.fileno(),))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            # Or it might cut the next socket that gets the number of this descriptor.
            timer.join()


def _cut(descriptor: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as twin, suppress(OSError):
        twin.shutdown(socket.SHUT_RDWR)
