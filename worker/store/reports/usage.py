"""Use of calls, turns and tokens, summed by the requested dimensions. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from worker.store.database import Store
from worker.store.rows import value_of
from worker.store.sql import sql

Dimension = Literal["agent", "version", "channel", "day"]

_COLUMNS: Final[dict[Dimension, str]] = {
    "agent": "t.agent",
    "version": "t.agent_version",
    "channel": "u.channel",
    "day": "CAST(c.intent_at AT TIME ZONE 'UTC' AS date)",
}
# A call that was not sent used nothing. The sum of a bigint is a numeric, hence the casts.
_SUM = """
SELECT {columns} count(DISTINCT c.turn_id) AS turns, count(*) AS calls,
    count(*) FILTER (WHERE c.state IN ('unknown', 'intended')) AS uncounted_calls,
    CAST(coalesce(sum(c.input_tokens), 0) AS bigint) AS input_tokens,
    CAST(coalesce(sum(c.output_tokens), 0) AS bigint) AS output_tokens
FROM calls c JOIN turns t ON t.id = c.turn_id JOIN channel_users u ON u.id = c.channel_user_id
WHERE c.state <> 'not_sent'
  AND c.intent_at >= CAST(:since AS timestamp) AT TIME ZONE 'UTC'
  AND c.intent_at < CAST(:until AS timestamp) AT TIME ZONE 'UTC' + interval '1 day'
{group}
"""
_TODAY = sql("SELECT CAST(service_now() AT TIME ZONE 'UTC' AS date)")
_BUDGETS = sql("""
SELECT agent, CAST(sum(messages) AS bigint) AS messages, CAST(sum(tokens) AS bigint) AS tokens
FROM budget_days WHERE day = CAST(service_now() AT TIME ZONE 'UTC' AS date) GROUP BY agent
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """The sums of one group."""

    group: tuple[str, ...]
    """Its values, in the order of the requested dimensions."""
    turns: int
    calls: int
    uncounted_calls: int
    """Calls without an answer, so their tokens are not known."""
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetUse:
    """Today's use of an agent's budget, by all its users."""

    messages: int = 0
    tokens: int = 0


class UsageStore(Store):
    """Sums over calls."""

    def today(self) -> date:
        """Return the database's day, UTC."""
        found: date = self._rows(_TODAY)[0][0]
        return found

    def budgets(self) -> dict[str, BudgetUse]:
        """Return today's use by agent, of the agents that have a budget."""
        return {row.agent: value_of(BudgetUse, row) for row in self._rows(_BUDGETS)}

    def total(self, by: Sequence[Dimension], *, since: date, until: date) -> list[UsageRow]:
        """Sum the calls that were begun on these days (UTC, both included), group by group."""
        columns = [_COLUMNS[one] for one in by]
        places = ", ".join(str(place) for place in range(1, len(by) + 1))
        statement = _SUM.format(
            columns="".join(f"{one}, " for one in columns),
            group=f"GROUP BY {places} ORDER BY {places}" if by else "",
        )
        return [
            value_of(UsageRow, row, group=tuple(str(value) for value in row[: len(by)]))
            for row in self._rows(sql(statement), {"since": since, "until": until})
        ]
