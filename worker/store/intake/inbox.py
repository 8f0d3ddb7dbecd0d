"""Messages of SQL producers: moved from `inbox` to `messages` in one transaction.

One worker drains at a time, so that a program's messages are accepted in the order in which it
inserted them. A second worker finds nothing to do.
"""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import psycopg

from worker.domain.errors import named
from worker.domain.messages import Accepted, NewMessage
from worker.observability.logs import log
from worker.store.database import Store
from worker.store.dead_letters import keep_on
from worker.store.intake.messages import accept_on
from worker.store.sql import Connection, Row, sql

QUEUE = "inbox"
"""The `queue` of its dead letters."""
CHANNEL = "worker_inbox"
"""What `enqueue_message` notifies."""
_CONNECT_S = 5
MAX_BATCH = 50
"""Envelopes per transaction. It holds the locks of their channel users until its end."""

# Held until the end of the transaction, also if the worker dies; 4871 is an arbitrary number.
_ALONE = sql("SELECT pg_try_advisory_xact_lock(4871, 1)")
_OLDEST = sql("SELECT id, envelope FROM inbox ORDER BY id LIMIT :limit")
_DELETE = sql("DELETE FROM inbox WHERE id = ANY(:ids)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An invalid envelope. `detail` names the field and the fix, never the value."""

    reason: str
    detail: str


Judged: TypeAlias = tuple[NewMessage, str | None] | Refused
"""A message and its W3C trace context (None = not traced), or the fault of its envelope."""


class InboxStore(Store):
    """The table `inbox`."""

    def drain(
        self, judge: Callable[[object], Judged], *, limit: int = MAX_BATCH
    ) -> tuple[Accepted, ...] | None:
        """Accept the oldest, at most `limit`; None = it is empty, or another worker drains it.

        `judge` runs inside the transaction and must be fast. Raises `PermanentError` if Postgres
        refuses one of them; nothing is accepted then.
        """
        with self._database.transaction() as connection:
            rows = _take(connection, limit)
            if not rows:
                return None
            return tuple(
                accepted
                for row in rows
                if (accepted := _accept(connection, row, judge(row.envelope))) is not None
            )

    def set_oldest_aside(self, refused: Refused) -> None:
        """Turn the oldest envelope, which Postgres refuses, into a dead letter."""
        with self._database.transaction() as connection:
            for row in _take(connection, 1):
                _accept(connection, row, refused)


def _take(connection: Connection, limit: int) -> Sequence[Row]:
    # The lock is tried, not waited for: a waiting drainer would hold a connection for nothing.
    if not connection.execute(_ALONE).scalar_one():
        return ()
    rows = connection.execute(_OLDEST, {"limit": limit}).fetchall()
    connection.execute(_DELETE, {"ids": [row.id for row in rows]})
    return rows


def _accept(connection: Connection, row: Row, judged: Judged) -> Accepted | None:
    if not isinstance(judged, Refused):
        message, traceparent = judged
        return accept_on(connection, message, starts_itself=False, traceparent=traceparent)
    raw = json.dumps(row.envelope, ensure_ascii=False).encode()
    keep_on(connection, reason=judged.reason, raw=raw, detail=judged.detail, queue=QUEUE)
    return None


class InboxListener:
    """Waits for inserts with LISTEN, on a connection of its own; used by one thread.

    A notification is a hint, like a wake: without any, the inbox is read once a second. A pooler in
    transaction mode drops LISTEN, so this connection bypasses it (LISTEN_DATABASE_URL).
    """

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
                log.warning("inbox.listen_failed", error=named(error))
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
