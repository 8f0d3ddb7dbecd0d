"""Removes personal data that is old enough. The rows stay: `reconcile` counts them.

docs/how-to/erase-and-export.md has the table of what is removed and what stays longer. In an open
conversation, `reconcile` checks that the thread still ends with the newest turn that landed, and
recognises a failed turn that appears late by its text; outputs of tools may be owed to the thread.

Each batch is one short transaction, and no two of them run at the same time.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta

from worker.store.database import Database, Store
from worker.store.locks import try_lock, wait_lock
from worker.store.sql import Row, Statement, sql

BATCH = 200

_BEGIN = sql("""
INSERT INTO retention_passes AS last (id, began_at) VALUES (1, service_now())
ON CONFLICT (id) DO UPDATE SET began_at = service_now()
WHERE last.began_at <= service_now() - :every RETURNING id
""")

# Workers of a release before do not know the column.
_DROPPED_BY_THEM = sql("""
UPDATE messages SET dropped_at = finished_at
WHERE turn_id IS NULL AND dropped_at IS NULL AND finished_at IS NOT NULL
""")
# The limit counts candidates, not removals: a batch stays short even if most rows must be kept.
_OLD_TURNS = """
WITH candidates AS (
    SELECT id, opened_at FROM turns
    WHERE opened_at < service_now() - :keep AND redacted_at IS NULL
      AND (opened_at, id) > (CAST(:after_at AS timestamptz), CAST(:after_id AS bigint))
    ORDER BY opened_at, id LIMIT :limit
), old AS (
    SELECT t.id FROM candidates JOIN turns t ON t.id = candidates.id
    WHERE t.redacted_at IS NULL AND t.finished_at < service_now() - :keep AND NOT EXISTS (
        SELECT FROM conversations c
        WHERE c.id = t.conversation_id AND c.closed_at IS NULL AND t.landed IS NOT FALSE
          AND (t.state = 'failed' OR t.id = (
              SELECT max(landed.id) FROM turns landed
              WHERE landed.conversation_id = c.id AND landed.landed)))
      AND NOT EXISTS (
        SELECT FROM replies r JOIN deliveries f ON f.reply_id = r.id
            JOIN deliveries d ON d.id = f.id OR d.part_of = f.id
        WHERE r.turn_id = t.id AND (d.state IN ('held', 'pending', 'sending') OR EXISTS (
            SELECT FROM dead_letters l WHERE l.delivery_id = d.id AND l.resolution IS NULL)))
      AND NOT EXISTS (
        SELECT FROM messages m JOIN dead_letters l ON l.message_row_id = m.id
        WHERE m.turn_id = t.id AND l.resolution IS NULL)
    FOR UPDATE OF t SKIP LOCKED
), last AS (
    SELECT opened_at, id FROM candidates ORDER BY opened_at DESC, id DESC LIMIT 1
)
"""
_SEEN_TURNS = """
SELECT (SELECT count(*) FROM candidates) AS seen, (SELECT opened_at FROM last) AS after_at,
    (SELECT id FROM last) AS after_id, (SELECT count(*) FROM old) AS turns,
    (SELECT count(*) FROM {messages}) AS messages
"""
_SEE_TURNS = sql(
    _OLD_TURNS + _SEEN_TURNS.format(messages="messages m JOIN old ON m.turn_id = old.id")
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
), requests AS (
    UPDATE deliveries d SET request = NULL
    FROM old JOIN replies r ON r.turn_id = old.id JOIN deliveries f ON f.reply_id = r.id
    WHERE (d.id = f.id OR d.part_of = f.id) AND d.request IS NOT NULL
), said AS (
    UPDATE replies r SET text = '', draft = NULL FROM old WHERE r.turn_id = old.id
), notes AS (
    UPDATE channel_users SET note = NULL WHERE id IN (
        SELECT u.id FROM old JOIN turns t ON t.id = old.id
            JOIN channel_users u ON u.id = t.channel_user_id
        WHERE u.note IS NOT NULL
          AND t.id = (SELECT max(id) FROM turns WHERE channel_user_id = u.id)
        FOR UPDATE OF u SKIP LOCKED)
), sent AS (
    UPDATE turns t SET input_text = '', parts = '[]', redacted_at = service_now()
    FROM old WHERE t.id = old.id
)
"""
    + _SEEN_TURNS.format(messages="written")
)
# Other rows refer only to messages with a turn, which a dead one always had.
# SKIP LOCKED: a row that a worker holds is left to the next pass.
_OLD_MESSAGES = """
WITH old AS (
    SELECT id, dropped_at FROM messages
    WHERE dropped_at < service_now() - :keep AND dropped_at IS NOT NULL AND redacted_at IS NULL
      AND (dropped_at, id) > (CAST(:after_at AS timestamptz), CAST(:after_id AS bigint))
    ORDER BY dropped_at, id LIMIT :limit FOR UPDATE SKIP LOCKED
), last AS (
    SELECT dropped_at, id FROM old ORDER BY dropped_at DESC, id DESC LIMIT 1
)
"""
_SEEN_MESSAGES = """
SELECT count(*) AS seen, (SELECT dropped_at FROM last) AS after_at,
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
    RETURNING notice_id
), notices AS (
    DELETE FROM deliveries WHERE id IN (SELECT notice_id FROM gone)
)
SELECT count(*) AS dead_letters, count(*) AS seen FROM gone
""")


def _by_age(table: str) -> tuple[Statement, Statement]:
    # In the order of the id, which grows with the time: the time has no index.
    old = f"FROM {table} WHERE at < service_now() - :keep"
    drop = f"""
WITH gone AS (
    DELETE {old} AND id IN (SELECT id FROM {table} ORDER BY id LIMIT :limit) RETURNING 1
)
SELECT count(*) AS {table}, count(*) AS seen FROM gone
"""
    return sql(f"SELECT count(*) AS {table} {old}"), sql(drop)


# Ids and addresses stay: threads are found by them, and a late answer goes there.
_COUNT_MAILS = sql("""
SELECT count(*) AS mails FROM mails
WHERE created_at < service_now() - :keep AND redacted_at IS NULL
""")
_REDACT_MAILS = sql("""
WITH old AS (
    SELECT id FROM mails WHERE created_at < service_now() - :keep AND redacted_at IS NULL
    ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
), written AS (
    UPDATE mails m SET subject = '', from_name = '', original = NULL, raw = NULL,
        redacted_at = service_now()
    FROM old WHERE m.id = old.id RETURNING 1
)
SELECT count(*) AS mails, count(*) AS seen FROM written
""")
_PARTS = (
    (_SEE_TURNS, _REDACT_TURNS),
    (_SEE_MESSAGES, _REDACT_MESSAGES),
    (_COUNT_LETTERS, _DROP_LETTERS),
    _by_age("attempt_log"),
    _by_age("audits"),
    (_COUNT_MAILS, _REDACT_MAILS),
)
"""Of each part of a pass the statement that only counts, and the one that removes."""


class RetentionStore(Store):
    """Removes texts older than `keep_days`."""

    def __init__(self, database: Database, *, keep_days: int) -> None:
        super().__init__(database)
        self._keep = timedelta(days=keep_days)

    def begin(self, *, every_s: float) -> bool:
        """Start a pass unless one was started within `every_s`; return whether it was started."""
        return self._row(_BEGIN, {"every": timedelta(seconds=every_s)}) is not None

    def run(self, *, waits: bool = True, dry_run: bool = False) -> Iterator[Mapping[str, int]]:
        """Run a batch for each item of the iterator, which is the number of rows by table.

        It may be abandoned at any point; the next pass continues. `waits` False: it ends if another
        process is running one. `dry_run`: it only counts.
        """
        if not dry_run:
            self._change(_DROPPED_BY_THEM)
        for counts, removes in _PARTS:
            values: dict[str, object] = {"keep": self._keep, "limit": BATCH}
            values |= {"after_at": "-infinity", "after_id": 0}
            seen = BATCH
            while seen >= BATCH:
                row = self._batch(counts if dry_run else removes, values, waits=waits)
                if row is None:
                    return
                found = row._asdict()
                seen = found.pop("seen", 0)
                values |= {name: found.pop(name, None) for name in ("after_at", "after_id")}
                yield {table: number for table, number in found.items() if number}

    def _batch(self, statement: Statement, values: dict[str, object], *, waits: bool) -> Row | None:
        with self._database.transaction() as connection:
            if waits:
                wait_lock(connection, "retention")
            elif not try_lock(connection, "retention"):
                return None
            return connection.execute(statement, values).one()
