"""Finds due users whom no worker holds, and shares the free slots among agents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from worker.domain.ids import ChannelUserId
from worker.store.database import Database, Store
from worker.store.sql import Row, sql

# `agents` jumps through the index from one name to the next. For each agent, `due` takes the users
# due for longest and ranks each as if those before had been given slots: so the agent with the
# fewest slots goes first, and 10,000 users of one agent delay nobody of another.
# An agent at its share gets no slot. One user more than could be taken is read for each agent, to
# know which agents have more users due.
# `woken_at` keeps other sweepers from waking the same user for a while.
_PICK = sql("""
WITH RECURSIVE agents AS (
    (SELECT agent FROM channel_users WHERE due_at IS NOT NULL ORDER BY agent LIMIT 1)
    UNION ALL
    SELECT (SELECT u.agent FROM channel_users u
        WHERE u.due_at IS NOT NULL AND u.agent > agents.agent ORDER BY u.agent LIMIT 1)
    FROM agents WHERE agents.agent IS NOT NULL
), due AS (
    SELECT one.id, agents.agent, one.due_at, coalesce(holds.slots, 0)
        + row_number() OVER (PARTITION BY agents.agent ORDER BY one.due_at) AS place
    FROM agents
    LEFT JOIN unnest(CAST(:agents AS text[]), CAST(:held AS bigint[])) AS holds (agent, slots)
        ON holds.agent = agents.agent
    CROSS JOIN LATERAL (
        SELECT u.id, u.due_at FROM channel_users u
        LEFT JOIN workers w ON w.id = u.lease_owner AND w.alive_until >= service_now()
        WHERE u.agent = ANY(ARRAY[agents.agent]) AND u.due_at <= service_now()
          AND u.diverged_at IS NULL
          AND (u.woken_at IS NULL OR u.woken_at < service_now() - :wake_ttl)
          AND (u.lease_owner IS NULL OR u.lease_until < service_now() OR w.id IS NULL)
        ORDER BY u.agent, u.due_at
        LIMIT greatest(least(:limit, :most - coalesce(holds.slots, 0)), 0) + 1
        FOR UPDATE OF u SKIP LOCKED
    ) AS one
), fair AS (
    SELECT id, agent, due_at, place FROM due WHERE place <= :most
    ORDER BY place, due_at LIMIT :limit
), woken AS (
    UPDATE channel_users SET woken_at = service_now() WHERE id = ANY(ARRAY(SELECT id FROM fair))
)
SELECT id, agent FROM (
    SELECT id, agent, place, due_at FROM fair
    UNION ALL
    SELECT DISTINCT NULL::bigint, agent, NULL::bigint, NULL::timestamptz FROM due
    WHERE id NOT IN (SELECT id FROM fair)
) AS found ORDER BY place, due_at
""")
# Only the index over agent and time returns users in order; every other plan has to sort. During a
# burst Postgres's statistics are old: it expects nobody to be due, so that any plan seems cheap,
# and may scan all users of other agents. Hence no sort. (`u.agent = ANY(ARRAY[...])`, because with
# `=` the planner drops the agent from the order, and would sort again.)
# The same wrong estimate would trigger JIT, which takes longer than the pick.
_IN_ORDER_OF_THE_INDEX = sql(
    "SELECT set_config('enable_sort', 'off', true) AS sort, set_config('jit', 'off', true) AS jit"
)
_NEXT = sql("""
SELECT extract(epoch FROM min(due_at) - service_now()) FROM channel_users
WHERE due_at > service_now()
""")
_FORGET_WAKE = sql("UPDATE channel_users SET woken_at = NULL WHERE id = :user_id")


class Due(NamedTuple):
    """A user to wake, and the agent to whose share of the slots the turn counts."""

    user_id: ChannelUserId
    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """Users who are due, and the time until the next one; None = no user waits for a time."""

    due: tuple[Due, ...]
    crowded: frozenset[str]
    """The agents with more due users than these."""
    next_due_in_s: float | None


class SweepStore(Store):
    """Finds users whose wake was lost, or never published."""

    def __init__(self, database: Database, *, wake_ttl_s: float) -> None:
        super().__init__(database)
        self._wake_ttl = timedelta(seconds=wake_ttl_s)

    def pick(self, *, limit: int, held: Mapping[str, int], most: int) -> Swept:
        """Mark at most `limit` due users as woken and return them in the order in which to start.

        `held`: the slots that each agent has already, of at most `most`. The agent with the fewest
        comes first, and within an agent the user who has been due for longest.
        """
        values = {
            "limit": limit,
            "wake_ttl": self._wake_ttl,
            "agents": list(held.keys()),
            "held": list(held.values()),
            "most": most,
        }
        rows: Sequence[Row] = ()
        if limit > 0:
            with self._database.transaction() as connection:
                connection.execute(_IN_ORDER_OF_THE_INDEX)
                rows = connection.execute(_PICK, values).fetchall()
        next_due_in_s = self._rows(_NEXT)[0][0]
        return Swept(
            due=tuple(Due(ChannelUserId(row.id), row.agent) for row in rows if row.id is not None),
            crowded=frozenset(row.agent for row in rows if row.id is None),
            next_due_in_s=None if next_due_in_s is None else float(next_due_in_s),
        )

    def forget_wake(self, user_id: ChannelUserId) -> None:
        """Let any sweeper wake this user again at once."""
        self._change(_FORGET_WAKE, {"user_id": user_id})
