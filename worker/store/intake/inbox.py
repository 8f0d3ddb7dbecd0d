"""Messages of SQL producers, and those with a `not_before`: moved from `inbox` to `messages`.

One worker drains at a time, so that a program's messages are accepted in the order in which it
inserted them. A second worker finds nothing to do. What has a `not_before` waits until the
database's clock has reached it.
"""

import select
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TypeAlias
from uuid import UUID

import psycopg

from message_worker_client.envelope.wire import HEAD_BYTES, MAX_ENTRY_BYTES, cut_to_head
from message_worker_client.postgres import Address
from worker.domain.errors import named
from worker.domain.messages import Accepted, Held, NewMessage, Sender
from worker.domain.reasons import DeadLetterReason as Reason
from worker.net.clock import boottime
from worker.observability.logs import log
from worker.store.database import Store
from worker.store.dead_letters import keep_on
from worker.store.intake.messages import accept_on
from worker.store.locks import holder, try_lock
from worker.store.rows import INBOX_IS_DUE
from worker.store.sql import Connection, Row, sql
from worker.store.sqlstates import is_away

QUEUE = "inbox"
"""The `queue` of its dead letters."""
CHANNEL = "worker_inbox"
"""What `enqueue_message` notifies."""
MAX_BATCH = 50
"""Envelopes per transaction. It holds the locks of their channel users until its end."""

_NOTHING_IS_DUE = sql(f"SELECT NOT EXISTS (SELECT FROM inbox WHERE {INBOX_IS_DUE})")
# As bytes: the driver would parse `jsonb`, and fail for one nested deeper than its stack. A batch
# has a few megabytes at most, and of a row beyond the cap only the first bytes leave Postgres.
_OLDEST = sql(f"""
SELECT id, created_at, not_before, expires_at, task_id, octet_length(content) AS size,
    CASE WHEN octet_length(content) <= :cap THEN content
        ELSE substring(content FROM 1 FOR :head) END AS content,
    CASE WHEN octet_length(content) > :cap THEN encode(sha256(content), 'hex') END AS sha256
FROM (
    SELECT *, sum(octet_length(content)) OVER (ORDER BY place, id) - octet_length(content) AS before
    FROM (SELECT id, created_at, not_before, expires_at, task_id,
              coalesce(not_before, '-infinity') AS place,
              convert_to(CAST(envelope AS text), 'UTF8') AS content
          FROM inbox WHERE {INBOX_IS_DUE} ORDER BY place, id LIMIT :limit) AS oldest
) AS measured
WHERE before < :cap ORDER BY place, id
""")
_LIMITS = {"limit": MAX_BATCH, "cap": MAX_ENTRY_BYTES, "head": HEAD_BYTES}
_DELETE = sql("DELETE FROM inbox WHERE id = ANY(:ids) RETURNING id")
_HOLD = sql("""
INSERT INTO inbox (id, envelope, created_at, not_before, expires_at, task_id)
    OVERRIDING SYSTEM VALUE
VALUES (coalesce(:id, nextval(pg_get_serial_sequence('inbox', 'id'))), CAST(:envelope AS jsonb),
    coalesce(:created_at, service_now()), :not_before, :expires_at,
    CAST(:task_id AS uuid))
RETURNING id
""")
_PUT = sql(f"""
WITH entry AS (
    INSERT INTO inbox (envelope, task_id)
    SELECT one.entry -> 1, CAST(one.entry ->> 0 AS uuid)
    FROM jsonb_array_elements(CAST(:entries AS jsonb)) WITH ORDINALITY AS one (entry, place)
    ORDER BY one.place
)
SELECT pg_notify('{CHANNEL}', '')
""")
_BUSY_S = 30.0
"""For how long another process may hold the lock before it is logged: a batch takes less."""
_DEAF_S = 5.0
"""Pause before a connection of the listener is tried a second time, and again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An invalid envelope. `detail` names the field and the fix, never the value."""

    reason: str
    detail: str
    names: Mapping[str, str] | None = None
    """See `KeptEntry`, as for `route`."""
    route: str | None = None


Judged: TypeAlias = tuple[NewMessage, str | None] | Refused
"""A message and its W3C trace context (None = not traced), or the fault of its envelope."""
Judge: TypeAlias = Callable[[Row], Judged]
"""Takes a row with `content`, `not_before`, `expires_at` and `task_id`."""
Taken: TypeAlias = Accepted | Refused | Held


class InboxStore(Store):
    """The table `inbox`."""

    _busy_since: float | None = None

    def hold(self, message: NewMessage) -> Held:
        """Commit a message that shall be accepted at its `not_before`."""
        with self._database.statement() as connection:
            return _hold_on(connection, message)

    def put(self, entries: Sequence[tuple[UUID, str]]) -> None:
        """Commit envelopes as JSON, each with the id under which its sender looks for it."""
        # One text: the driver takes an array apart in Python, an element at a time.
        pairs = ",".join([f'["{id_}",{envelope}]' for id_, envelope in entries])
        self._row(_PUT, {"entries": f"[{pairs}]"})

    def drain(self, judge: Judge, *, apart: bool = False) -> tuple[Taken, ...] | None:
        """Accept the oldest or set them aside; None = none is due, or another worker drains.

        Used by one thread. One with a `not_before` that was not looked at yet stays, held.
        `judge` runs inside the transaction and must be fast. `apart`: a row that raises is set
        aside, whatever the cause. Without it nothing is accepted then, and the error is raised.
        """
        key = self._database.consent_key
        with self._database.transaction() as connection:
            if connection.execute(_NOTHING_IS_DUE).scalar_one():
                self._busy_since = None
                return None
            if not self._is_alone(connection):
                return None
            rows = connection.execute(_OLDEST, _LIMITS).fetchall()
            deleted = connection.execute(_DELETE, {"ids": [row.id for row in rows]}).fetchall()
            # Not what a worker of an older version has just taken: it has another lock.
            ours = {row.id for row in deleted}
            take = _take_apart if apart else _take
            return (
                tuple(take(connection, row, judge, key) for row in rows if row.id in ours) or None
            )

    def _is_alone(self, connection: Connection) -> bool:
        # Tried, not waited for: a waiting drainer would hold a connection for nothing.
        if try_lock(connection, "inbox"):
            self._busy_since = None
            return True
        now = boottime()
        self._busy_since = self._busy_since or now
        if now - self._busy_since >= _BUSY_S:
            self._busy_since = now
            log.warning("inbox.held", holder=holder(connection))
        return False


def _hold_on(connection: Connection, message: NewMessage, row: Row | None = None) -> Held:
    values = {
        "id": row and row.id,
        "created_at": row and row.created_at,
        "envelope": message.envelope,
        "not_before": message.not_before,
        "expires_at": message.expires_at,
        "task_id": message.task_id,
    }
    return Held(inbox_id=connection.execute(_HOLD, values).scalar_one())


def _take(connection: Connection, row: Row, judge: Judge, key: bytes) -> Taken:
    judged: Judged = (
        judge(row)
        if row.sha256 is None
        else Refused(reason=Reason.TOO_LARGE, detail=cut_to_head(row.size, row.sha256))
    )
    if isinstance(judged, Refused):
        return _set_aside(connection, row, judged)
    message, traceparent = judged
    if message.not_before is not None and row.not_before is None:
        return _hold_on(connection, message, row)
    return accept_on(connection, message, key, starts_itself=False, traceparent=traceparent)


def _take_apart(connection: Connection, row: Row, judge: Judge, key: bytes) -> Taken:
    try:
        # A savepoint.
        with connection.driver.transaction():
            return _take(connection, row, judge, key)
    except psycopg.Error as error:
        if is_away(error):
            raise
        refused = Refused(
            reason=Reason.NOT_STORABLE, detail="envelope: Postgres refuses to store it"
        )
    except Exception as error:  # noqa: BLE001 - the other rows must not wait for this one
        # The type alone: its text may quote the envelope.
        refused = Refused(reason=Reason.NOT_UNDERSTOOD, detail=type(error).__name__)
    return _set_aside(connection, row, refused)


def _set_aside(connection: Connection, row: Row, refused: Refused) -> Refused:
    keep_on(
        connection,
        raw=row.content,
        queue=QUEUE,
        sender=Sender(task_id=row.task_id and str(row.task_id)),
        **asdict(refused),
    )
    return refused


class InboxListener:
    """Waits for inserts with LISTEN, on a connection of its own; one thread waits.

    A notification is a hint, like a wake: without any, a sweeper's look finds the inbox due. A
    pooler in transaction mode drops LISTEN, so this connection bypasses it (LISTEN_DATABASE_URL).
    """

    def __init__(self, url: str) -> None:
        self._address = Address(url)
        self._connection: psycopg.Connection | None = None
        self._is_deaf = False
        self._bell: tuple[socket.socket, socket.socket] | None = None

    def open(self) -> None:
        """Make `rouse` work, before the thread starts."""
        self._bell = socket.socketpair()
        for end in self._bell:
            end.settimeout(0)

    def rouse(self) -> None:
        """End the wait; any thread may call it."""
        # Full, it rings already; closed, nobody waits.
        with suppress(OSError):
            if self._bell is not None:
                self._bell[0].send(b"!")

    def wait(self, *, listens: bool) -> None:
        """Return when there may be a new envelope, or when it is roused. Never raises.

        Without `listens` it keeps no connection.
        """
        try:
            if not listens:
                self._hang_up()
            elif self._connection is None:
                self._connect()
                # There may be some from before.
                return
            self._wait(None)
            self._is_deaf = False
        except (psycopg.Error, OSError) as error:
            self._hang_up()
            if self._is_deaf:
                self._wait(_DEAF_S)
            else:
                log.warning("inbox.listen_failed", error=named(error))
            self._is_deaf = True

    def close(self) -> None:
        """Close the connection; no other thread waits any more."""
        self._hang_up()
        for end in self._bell or ():
            end.close()

    def _wait(self, timeout_s: float | None) -> None:
        # Not psycopg's own wait: it wakes ten times a second.
        waiting, connection, bell = select.poll(), self._connection, self._bell and self._bell[1]
        for one in (bell, connection):
            if one is not None:
                waiting.register(one.fileno(), select.POLLIN)
        waiting.poll(timeout_s and timeout_s * 1000)
        if bell is not None:
            with suppress(BlockingIOError):
                bell.recv(4096)
        if connection is not None:
            for _ in connection.notifies(timeout=0):
                pass

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> None:
        connection = self._address.connect(
            name="worker-inbox",
            settings={},
            # Nothing is sent while it listens, so only these probes notice a dead connection.
            parameters={"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3},
        )
        self._connection = connection
        connection.execute(f"LISTEN {CHANNEL}")
