"""Waits for inserts into the inbox with LISTEN, on a connection of its own.

A notification is a hint, like a wake: without any, the inbox is read once a second. A pooler in
transaction mode drops LISTEN, so this connection bypasses it (LISTEN_DATABASE_URL).
"""

import threading

import psycopg

from worker.observability.logs import log

CHANNEL = "worker_inbox"
_CONNECT_S = 5


class InboxListener:
    """One connection; used by one thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection | None = None
        self._is_deaf = False

    def wait(self, timeout_s: float, stop: threading.Event) -> None:
        """Return when there may be a new envelope, or after `timeout_s`. Never raises."""
        try:
            connection = self._connection or self._connect()
            for _ in connection.notifies(timeout=timeout_s, stop_after=1):
                pass
            self._is_deaf = False
        except (psycopg.Error, OSError) as error:
            self.close()
            if not self._is_deaf:
                log.warning("inbox.listen_failed", error=type(error).__name__)
            self._is_deaf = True
            stop.wait(timeout_s)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> psycopg.Connection:
        self._connection = psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=_CONNECT_S,
            application_name="worker-inbox",
            # Nothing is sent while it listens, so only these probes notice a dead connection.
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
        self._connection.execute(f"LISTEN {CHANNEL}")
        return self._connection
