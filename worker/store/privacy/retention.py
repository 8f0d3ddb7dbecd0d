"""Taking out what people wrote, once it is old enough. The rows stay: read-backs count them.

    turns          `input_text` and `parts`, the envelopes of its messages, the output of its calls,
                   arguments and output of its tool calls, the text of its reply
    messages       the envelope of one that no turn ever took
    dead_letters   the whole row, once somebody has decided
    attempt_log    the whole row

Nothing is touched that anybody may still have to read:

- a turn that is open, that has a delivery on its way, or a dead letter that nobody has decided;
- of an open conversation the newest turn that landed: a read-back looks whether the thread still
  ends in its words;
- of an open conversation a turn that failed, unless it is known not to have landed: it may turn up
  in the thread late, and is known by its words; and outputs of tools may be owed to the thread.

Each batch is one short transaction, and no two of them run at once.
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

# Of the oldest, so many are looked at, whether they may go or not: so a batch is short for certain.
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
# A dead one always had a turn, and none of these has anything that hangs on it.
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
# By id, which grows with the time; the time itself has no index.
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
    """How far a walk has come."""

    at: datetime | None = None
    """None = at the beginning."""
    id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one batch did."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """Table -> how many rows; tables without are left out."""
    next: Cursor | None = None
    """Where the following batch goes on; None = this was the last."""


class RetentionStore:
    """What is older than `keep_days`. Every method but `begin` does one batch.

    `waits`: behind the batch of another; else None is given where another is at it.
    """

    def __init__(self, database: Database, *, keep_days: int) -> None:
        self._database = database
        self._keep = timedelta(days=keep_days)

    def begin(self, *, every_s: float) -> bool:
        """Begin a pass where nobody has begun one for so long; gives whether it is ours."""
        with self._database.statement() as connection:
            values = {"every": timedelta(seconds=every_s)}
            return connection.execute(_BEGIN, values).one_or_none() is not None

    def turns(self, cursor: Cursor, *, waits: bool, dry_run: bool) -> Batch | None:
        """Take the texts out of ended turns, and out of what belongs to them."""
        return self._walk(_SEE_TURNS if dry_run else _REDACT_TURNS, cursor, waits=waits)

    def messages(self, cursor: Cursor, *, waits: bool, dry_run: bool) -> Batch | None:
        """Empty the envelopes of messages that ended without a turn."""
        return self._walk(_SEE_MESSAGES if dry_run else _REDACT_MESSAGES, cursor, waits=waits)

    def dead_letters(self, _: Cursor, *, waits: bool, dry_run: bool) -> Batch | None:
        """Delete dead letters that somebody has decided."""
        return self._drop(_COUNT_LETTERS if dry_run else _DROP_LETTERS, waits=waits)

    def attempt_log(self, _: Cursor, *, waits: bool, dry_run: bool) -> Batch | None:
        """Delete evidence."""
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
