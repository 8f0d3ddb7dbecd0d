"""Counts of the last hour and of today, for `worker metrics`. Reads only.

Ids grow with time, so the first row of that time is found by halving the range of ids: there is no
index on the times, and the statement must not read the whole table.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from worker.store.limits.budgets import MIDNIGHT
from worker.store.reports.status import StatusStore
from worker.store.sql import Connection, Row, sql

_BOUND = sql(
    "SELECT set_config(name, value, true) FROM (VALUES ('statement_timeout', '2s'),"
    " ('lock_timeout', '1s'), ('enable_seqscan', 'off'), ('jit', 'off'),"
    " ('max_parallel_workers_per_gather', '0')) AS bound (name, value)"
)
_HOUR = "service_now() - interval '1 hour'"


def first_since(table: str, column: str, since: str) -> str:
    """Return a CTE `first(id)`: the first row with `column >= since`, found in some 30 steps."""
    return f"""
WITH RECURSIVE half AS (
    SELECT min(id) AS low, max(id) + 1 AS high FROM {table}
    UNION ALL
    SELECT CASE WHEN is_old THEN middle + 1 ELSE low END, CASE WHEN is_old THEN high ELSE middle END
    FROM half, LATERAL (SELECT (low + high) / 2 AS middle) AS m, LATERAL (SELECT coalesce((
        SELECT {column} < {since} FROM {table} WHERE id >= middle ORDER BY id LIMIT 1
    ), false) AS is_old) AS looked_at
    WHERE low < high
), first AS (SELECT low AS id FROM half WHERE low >= high)
"""


_GAUGES = {
    "messages_last_hour": first_since("messages", "accepted_at", _HOUR)
    + f"""
SELECT state, coalesce(outcome, 'none'), count(*)
FROM messages WHERE id >= (SELECT id FROM first) AND accepted_at >= {_HOUR} GROUP BY 1, 2
""",
    "deliveries_last_hour": first_since("deliveries", "created_at", _HOUR)
    + f"""
SELECT state, count(*)
FROM deliveries WHERE id >= (SELECT id FROM first) AND created_at >= {_HOUR} GROUP BY 1
""",
    "drafts_decided_last_hour": f"""
SELECT CASE WHEN d.state = 'rejected' THEN 'rejected' WHEN r.source = 'edited' THEN 'edited'
    ELSE 'approved' END, count(*)
FROM deliveries d, LATERAL (SELECT source FROM replies WHERE id = d.reply_id OFFSET 0) AS r
WHERE d.reviewed_at >= {_HOUR} GROUP BY 1
""",
    # A histogram: each bucket counts those before it, too.
    "draft_edits_last_hour": f"""
SELECT bucket.share, count(*) FILTER (WHERE edit.changed <= CAST(bucket.share AS real))
FROM (SELECT r.changed FROM deliveries d,
    LATERAL (SELECT changed FROM replies WHERE id = d.reply_id OFFSET 0) AS r
    WHERE d.reviewed_at >= {_HOUR} AND r.changed IS NOT NULL) AS edit
    RIGHT JOIN (VALUES ('0.1'), ('0.25'), ('0.5'), ('0.75'), ('1')) AS bucket (share) ON true
GROUP BY 1 ORDER BY 1
""",
    # Since midnight UTC, by agent and direction.
    # OFFSET 0: a look by key for each of today's calls. As a join, it would read all turns.
    "tokens_today": first_since("calls", "intent_at", MIDNIGHT)
    + f"""
SELECT agent, direction, sum(tokens)
FROM calls c, LATERAL (SELECT agent FROM turns WHERE id = c.turn_id OFFSET 0) AS t,
    LATERAL (VALUES ('input', c.input_tokens), ('output', c.output_tokens)) AS d (direction, tokens)
WHERE c.id >= (SELECT id FROM first) AND c.intent_at >= {MIDNIGHT} GROUP BY 1, 2
""",
}
_STATEMENTS = {name: sql(statement) for name, statement in _GAUGES.items()}


class GaugeStore(StatusStore):
    """The same counts, and gauges. Each statement takes two seconds at most and uses indexes."""

    @contextmanager
    def _statement(self) -> Iterator[Connection]:
        # Set in the transaction, because a pooler may drop the limits of the connection.
        with self._database.transaction() as connection:
            connection.execute(_BOUND)
            yield connection

    def recent(self, gauge: str) -> list[Row]:
        """Return the labels and the value of a gauge of the last hour, or of today."""
        return self._rows(_STATEMENTS[gauge])
