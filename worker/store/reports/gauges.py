"""Counts of the last hour and of today, for `worker metrics`. Reads only.

Ids grow with time, so the first row of that time is found by halving the range of ids: there is no
index on the times, and the statement must not read the whole table.
"""

from worker.store.database import Database
from worker.store.reports.status import bounded
from worker.store.sql import Row, sql

_HOUR = "service_now() - interval '1 hour'"
_TODAY = "date_trunc('day', service_now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"


def _first_since(table: str, column: str, since: str) -> str:
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


_MESSAGES = sql(
    _first_since("messages", "accepted_at", _HOUR)
    + f"""
SELECT state, coalesce(outcome, 'none'), count(*)
FROM messages WHERE id >= (SELECT id FROM first) AND accepted_at >= {_HOUR} GROUP BY 1, 2
"""
)
_DELIVERIES = sql(
    _first_since("deliveries", "created_at", _HOUR)
    + f"""
SELECT state, count(*)
FROM deliveries WHERE id >= (SELECT id FROM first) AND created_at >= {_HOUR} GROUP BY 1
"""
)
# OFFSET 0: a look by key for each of today's calls. As a join, it would read all turns.
_TOKENS = sql(
    _first_since("calls", "intent_at", _TODAY)
    + f"""
SELECT agent, direction, sum(tokens)
FROM calls c, LATERAL (SELECT agent FROM turns WHERE id = c.turn_id OFFSET 0) AS t,
    LATERAL (VALUES ('input', c.input_tokens), ('output', c.output_tokens)) AS d (direction, tokens)
WHERE c.id >= (SELECT id FROM first) AND c.intent_at >= {_TODAY} GROUP BY 1, 2
"""
)


class GaugeStore:
    """Rows of labels with a count behind them. Each takes at most two seconds, see `bounded`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def messages_last_hour(self) -> list[Row]:
        """Count the messages accepted in the last hour: state, outcome, count."""
        with bounded(self._database) as connection:
            return connection.execute(_MESSAGES).fetchall()

    def deliveries_last_hour(self) -> list[Row]:
        """Count the replies made in the last hour: state of their delivery, count."""
        with bounded(self._database) as connection:
            return connection.execute(_DELIVERIES).fetchall()

    def tokens_today(self) -> list[Row]:
        """Sum the tokens of the calls begun since midnight UTC: agent, direction, tokens."""
        with bounded(self._database) as connection:
            return connection.execute(_TOKENS).fetchall()
