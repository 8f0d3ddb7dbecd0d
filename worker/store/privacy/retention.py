"""Removes personal data that is old enough. The rows stay: `reconcile` counts them.

    turns          `input_text` and `parts`, the envelopes of its messages, the output of its calls,
                   arguments and output of its tool calls, the text of its reply
    messages       the envelope of one that never was in a turn
    dead_letters   the whole row, once it is replayed or dismissed
    attempt_log    the whole row

Texts that are still needed are kept:

- those of a turn that is open, has a pending delivery, or has an open dead letter;
- in an open conversation, the newest turn that landed: `reconcile` checks that the thread still
  ends with it;
- in an open conversation, a failed turn that may have landed: it may appear in the thread late, and
  is recognised by its text; and outputs of tools may be owed to the thread.

Each batch is one short transaction, and no two of them run at the same time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from worker.store.database import Database
from worker.store.sql import Connection, Row, Statement, sql

BATCH = 200

# 4871 is an arbitrary number, as in `store/intake/inbox.py`. Held until the end of the transaction.
_TRY = sql("SELECT pg_try_advisory_xact_lock(4871, 2)")
WAIT = sql("SELECT pg_advisory_xact_lock(4871, 2)")

_BEGIN = sql("""
INSERT INTO retention_passes AS last (id, began_at) VALUES (1, service_now())
ON CONFLICT (id) DO UPDATE SET began_at = service_now()
WHERE last.began_at <= service_now() - :every RETURNING id
""")

# The limit counts candidates, not removals: a batch stays short even if most rows must be kept.
_OLD_TURNS = """
WITH candidates AS (
    SELECT id, finished_at FROM turns
    WHERE finished_at < service_now() - :keep AND finished_at IS NOT NULL AND redacted_at IS NULL
      AND (finished_at, id) > (CAST(:after_at AS timestamptz), CAST(:after_id AS bigint))
    ORDER BY finished_at, id LIMIT :limit
), old AS (
    SELECT t.id FROM candidates JOIN turns t ON t.id = candidates.id
    WHERE t.redacted_at IS NULL AND NOT EXISTS (
        SELECT FROM conversations c
        WHERE c.id = t.conversation_id AND c.closed_at IS NULL AND t.landed IS NOT FALSE
          AND (t.state = 'failed' OR t.id = (
              SELECT max(landed.id) FROM turns landed
              WHERE landed.conversation_id = c.id AND landed.landed)))
      AND NOT EXISTS (
        SELECT FROM replies r JOIN deliveries d ON d.reply_id = r.id
        WHERE r.turn_id = t.id AND (d.state IN ('pending', 'sending') OR EXISTS (
            SELECT FROM dead_letters l WHERE l.delivery_id = d.id AND l.resolution IS NULL)))
      AND NOT EXISTS (
        SELECT FROM messages m JOIN dead_letters l ON l.message_row_id = m.id
        WHERE m.turn_id = t.id AND l.resolution IS NULL)
    FOR UPDATE OF t SKIP LOCKED
), last AS (
    SELECT finished_at, id FROM candidates ORDER BY finished_at DESC, id DESC LIMIT 1
)
"""
_SEE_TURNS = sql(
    _OLD_TURNS
    + """
SELECT (SELECT count(*) FROM candidates) AS seen, (SELECT finished_at FROM last) AS after_at,
    (SELECT id FROM last) AS after_id, (SELECT count(*) FROM old) AS turns,
    (SELECT count(*) FROM messages m JOIN old ON m.turn_id = old.id) AS messages
"""
)
_REDACT_TURNS = sql(
    _OLD_TURNS
    + """
, written AS (
    UPDATE messages m SET envelope = '{}', redacted_at = service_now()
    FROM old WHERE m.turn_id = old.id RETURNING m.id
), answers AS (
    UPDATE calls c SET output = NULL FROM old WHERE c.turn_id = old.id AND c.output IS NOT NULL
), tools AS (
    UPDATE tool_calls c SET arguments = '', output = NULL FROM old WHERE c.turn_id = old.id
), said AS (
    UPDATE replies r SET text = '' FROM old WHERE r.turn_id = old.id
), sent AS (
    UPDATE turns t SET input_text = '', parts = '[]', redacted_at = service_now()
    FROM old WHERE t.id = old.id
)
SELECT (SELECT count(*) FROM candidates) AS seen, (SELECT finished_at FROM last) AS after_at,
    (SELECT id FROM last) AS after_id, (SELECT count(*) FROM old) AS turns,
    (SELECT count(*) FROM written) AS messages
"""
)
# Other rows refer only to messages with a turn, which a dead one always had.
# SKIP LOCKED: a row that a worker holds is left to the next pass.
_OLD_MESSAGES = """
WITH old AS (
    SELECT id, finished_at FROM messages
    WHERE finished_at < service_now() - :keep AND finished_at IS NOT NULL AND turn_id IS NULL
      AND redacted_at IS NULL
      AND (finished_at, id) > (CAST(:after_at AS timestamptz), CAST(:after_id AS bigint))
    ORDER BY finished_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
), last AS (
    SELECT finished_at, id FROM old ORDER BY finished_at DESC, id DESC LIMIT 1
)
"""
_SEEN_MESSAGES = """
SELECT count(*) AS seen, (SELECT finished_at FROM last) AS after_at,
    (SELECT id FROM last) AS after_id, count(*) AS messages FROM old
"""
_SEE_MESSAGES = sql(_OLD_MESSAGES + _SEEN_MESSAGES)
_REDACT_MESSAGES = sql(
    _OLD_MESSAGES
    + """
, written AS (
    UPDATE messages m SET envelope = '{}', redacted_at = service_now() FROM old WHERE m.id = old.id
)
"""
    + _SEEN_MESSAGES
)
_LETTERS = "FROM dead_letters WHERE resolved_at < service_now() - :keep"
_COUNT_LETTERS = sql(f"SELECT count(*) AS dead_letters {_LETTERS}")
_DROP_LETTERS = sql(f"""
WITH gone AS (
    DELETE FROM dead_letters WHERE id IN (SELECT id {_LETTERS} ORDER BY id LIMIT :limit)
    RETURNING 1
)
SELECT count(*) AS dead_letters, count(*) AS seen FROM gone
""")
# In the order of the id, which grows with the time: the time has no index.
_COUNT_LOG = sql("SELECT count(*) AS attempt_log FROM attempt_log WHERE at < service_now() - :keep")
_DROP_LOG = sql("""
WITH gone AS (
    DELETE FROM attempt_log WHERE at < service_now() - :keep
      AND id IN (SELECT id FROM attempt_log ORDER BY id LIMIT :limit)
    RETURNING 1
)
SELECT count(*) AS attempt_log, count(*) AS seen FROM gone
""")
_TABLES = ("turns", "messages", "dead_letters", "attempt_log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The position of a walk through a table."""

    at: datetime | None = None
    """None = at the beginning."""
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The result of one batch."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """Rows by table; tables without any are left out."""
    next: Cursor | None = None
    """The position of the next batch; None = this was the last."""


class RetentionStore:
    """Removes texts older than `keep_days`. Every method but `begin` runs one batch.

    `waits` False: a batch returns None if another process is running one.
    """

    def __init__(self, database: Database, *, keep_days: int) -> None:
        self._database = database
        self._keep = timedelta(days=keep_days)

    def begin(self, *, every_s: float) -> bool:
        """Start a pass unless one was started within `every_s`; return whether it was started."""
        with self._database.statement() as connection:
            values = {"every": timedelta(seconds=every_s)}
            return connection.execute(_BEGIN, values).one_or_none() is not None

    def turns(self, cursor: Cursor, *, waits: bool, dry_run: bool) -> Batch | None:
        """Remove the texts of ended turns, and those of their messages, calls and replies."""
        return self._walk(_SEE_TURNS if dry_run else _REDACT_TURNS, cursor, waits=waits)

    def messages(self, cursor: Cursor, *, waits: bool, dry_run: bool) -> Batch | None:
        """Empty the envelopes of messages that ended without a turn."""
        return self._walk(_SEE_MESSAGES if dry_run else _REDACT_MESSAGES, cursor, waits=waits)

    def dead_letters(self, _: Cursor, *, waits: bool, dry_run: bool) -> Batch | None:
        """Delete dead letters that are replayed or dismissed."""
        return self._drop(_COUNT_LETTERS if dry_run else _DROP_LETTERS, waits=waits)

    def attempt_log(self, _: Cursor, *, waits: bool, dry_run: bool) -> Batch | None:
        """Delete old rows of the attempt log."""
        return self._drop(_COUNT_LOG if dry_run else _DROP_LOG, waits=waits)

    def _walk(self, statement: Statement, cursor: Cursor, *, waits: bool) -> Batch | None:
        after_at = "-infinity" if cursor.at is None else cursor.at
        values = {"keep": self._keep, "limit": BATCH, "after_at": after_at, "after_id": cursor.id}
        with self._database.transaction() as connection:
            if not _alone(connection, waits=waits):
                return None
            row = connection.execute(statement, values).one()
        if row.seen < BATCH:
            return Batch(counts=_counts(row))
        return Batch(counts=_counts(row), next=Cursor(at=row.after_at, id=row.after_id))

    def _drop(self, statement: Statement, *, waits: bool) -> Batch | None:
        with self._database.transaction() as connection:
            if not _alone(connection, waits=waits):
                return None
            row = connection.execute(statement, {"keep": self._keep, "limit": BATCH}).one()
        is_full = getattr(row, "seen", 0) >= BATCH
        return Batch(counts=_counts(row), next=Cursor() if is_full else None)


def _alone(connection: Connection, *, waits: bool) -> bool:
    if waits:
        connection.execute(WAIT)
        return True
    return bool(connection.execute(_TRY).scalar_one())


def _counts(row: Row) -> dict[str, int]:
    found = {table: int(getattr(row, table, 0)) for table in _TABLES}
    return {table: number for table, number in found.items() if number}
