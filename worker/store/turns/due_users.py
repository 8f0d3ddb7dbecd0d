"""Finds due users whom no worker holds, and shares the free slots among agents and senders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from worker.domain.fairness import Share
from worker.domain.ids import ChannelUserId
from worker.store.database import Database, Store
from worker.store.rows import INBOX_IS_DUE
from worker.store.sql import Row, sql
from worker.store.turns.lease import FREE

_UNATTENDED = """u.diverged_at IS NULL
    AND (u.woken_at IS NULL OR u.woken_at < service_now() - :wake_ttl)
    AND (u.lease_owner IS NULL OR u.lease_until < service_now() OR w.id IS NULL)"""
_LEFT_ALONE = f"""FROM calls c JOIN channel_users u ON u.id = c.channel_user_id
    LEFT JOIN workers w ON w.id = c.worker_id AND w.alive_until >= service_now()
    WHERE c.state = 'intended' AND u.due_at IS NULL AND {FREE}
      AND (w.id IS NULL OR c.intent_at < service_now() - CAST(:wake_ttl AS interval))"""
# `shares` jumps through the index from one share to the next; `room` says how many slots each may
# get. `due` takes the users of each share who are due for longest, and one more, to know which
# shares have more users due.
# `ranked` orders the users of an agent: each as if those before had been given slots, and nine of
# them before one surplus user. `place` does the same for the agents: the one with the fewest slots
# goes first, so 10,000 users of one agent delay nobody of another.
# `woken_at` keeps other sweepers from waking the same user for a while.
_PICK = sql(f"""
WITH RECURSIVE shares AS (
    (SELECT agent, surplus FROM channel_users WHERE due_at IS NOT NULL
        ORDER BY agent, surplus LIMIT 1)
    UNION ALL
    SELECT later.agent, later.surplus FROM shares CROSS JOIN LATERAL (
        SELECT u.agent, u.surplus FROM channel_users u
        WHERE u.due_at IS NOT NULL AND (u.agent, u.surplus) > (shares.agent, shares.surplus)
        ORDER BY u.agent, u.surplus LIMIT 1
    ) AS later
), room AS (
    SELECT agent, surplus, slots, of_agent, greatest(0, least(:limit, :most - of_agent,
        CASE WHEN surplus THEN :most_surplus - slots END)) AS free
    FROM shares, LATERAL (
        SELECT CAST(coalesce(sum(held.slots), 0) AS bigint) AS of_agent,
            CAST(coalesce(sum(held.slots) FILTER (WHERE held.surplus = shares.surplus), 0)
                AS bigint) AS slots
        FROM unnest(CAST(:agents AS text[]), CAST(:surpluses AS boolean[]),
            CAST(:held AS bigint[])) AS held (agent, surplus, slots)
        WHERE held.agent = shares.agent
    ) AS holds
), due AS (
    SELECT one.id, one.due_at, room.*,
        row_number() OVER (PARTITION BY room.agent, room.surplus ORDER BY one.due_at) AS nth
    FROM room CROSS JOIN LATERAL (
        SELECT u.id, u.due_at FROM channel_users u
        LEFT JOIN workers w ON w.id = u.lease_owner AND w.alive_until >= service_now()
        WHERE u.due_at IS NOT NULL
          AND (u.agent, u.surplus, u.due_at) >= (room.agent, room.surplus, '-infinity')
          AND (u.agent, u.surplus, u.due_at) <= (room.agent, room.surplus, service_now())
          AND {_UNATTENDED}
        ORDER BY u.agent, u.surplus, u.due_at
        LIMIT room.free + 1
        FOR UPDATE OF u SKIP LOCKED
    ) AS one
), ranked AS (
    SELECT id, agent, surplus, due_at, of_agent + row_number() OVER (PARTITION BY agent
        ORDER BY (slots + nth) * CASE WHEN surplus THEN 9 ELSE 1 END, surplus) AS place
    FROM due WHERE nth <= free
), fair AS (
    SELECT id, agent, surplus, due_at, place FROM ranked WHERE place <= :most
    ORDER BY place, due_at LIMIT :limit
), woken AS (
    UPDATE channel_users SET woken_at = service_now() WHERE id = ANY(ARRAY(SELECT id FROM fair))
)
SELECT id, agent, surplus FROM (
    SELECT id, agent, surplus, place, due_at FROM fair
    UNION ALL
    SELECT DISTINCT NULL::bigint, agent, surplus, NULL::bigint, NULL::timestamptz FROM due
    WHERE id NOT IN (SELECT id FROM fair)
) AS found ORDER BY place, due_at
""")
# Only the index over share and time returns users in order; every other plan has to sort. During a
# burst Postgres's statistics are old: it expects nobody to be due, so that any plan seems cheap,
# and may scan all users of other shares. Hence no sort. (Rows are compared, because with `=` the
# planner drops agent and surplus from the order, and other indexes would do.)
# The same wrong estimate would trigger JIT, which takes longer than the pick.
#
# `left_alone`: the fast path leaves `due_at` NULL while it asks Telnyx. If its worker dies, or does
# not settle, its intent leads to the user. Every lease is longer than :wake_ttl.
_PREPARE = sql(f"""
WITH left_alone AS (
    UPDATE channel_users SET due_at = service_now() WHERE id = ANY(ARRAY(
        SELECT u.id {_LEFT_ALONE} FOR NO KEY UPDATE OF u SKIP LOCKED))
)
SELECT set_config('enable_sort', 'off', true) AS sort, set_config('jit', 'off', true) AS jit,
    set_config('enable_incremental_sort', 'off', true) AS incremental_sort
""")
_LOOK = sql(f"""
SELECT EXISTS (
        SELECT FROM channel_users u
        LEFT JOIN workers w ON w.id = u.lease_owner AND w.alive_until >= service_now()
        WHERE u.due_at <= service_now() AND {_UNATTENDED}
    ) OR EXISTS (SELECT {_LEFT_ALONE}) AS users,
    EXISTS (SELECT FROM deliveries WHERE due_at <= service_now() - :grace) AS deliveries,
    EXISTS (SELECT FROM inbox WHERE {INBOX_IS_DUE}) AS inbox,
    (SELECT CAST(extract(epoch FROM min(due_at) - service_now()) AS float8)
        FROM channel_users WHERE due_at > service_now()) AS next_due_in_s,
    CAST(extract(epoch FROM service_now()) AS float8) AS now_s
""")
_FORGET_WAKE = sql("UPDATE channel_users SET woken_at = NULL WHERE id = :user_id")


class Due(NamedTuple):
    """A user to wake, and the share of the slots that the turn uses."""

    user_id: ChannelUserId
    share: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Whether there is work that nobody does."""

    users: bool
    deliveries: bool
    inbox: bool
    next_due_in_s: float | None
    """Until the next user is due; None = no user waits for a time."""
    now_s: float
    """By the clock of Postgres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """Users who are due."""

    due: tuple[Due, ...]
    crowded: frozenset[Share]
    """The shares with more due users than these."""


class SweepStore(Store):
    """Finds users whose wake was lost, or never published."""

    def __init__(self, database: Database, *, wake_ttl_s: float) -> None:
        super().__init__(database)
        self._wake_ttl = timedelta(seconds=wake_ttl_s)

    def look(self, *, grace_s: float) -> Look:
        """Look for due users, deliveries that are due for `grace_s`, and the inbox."""
        values = {"wake_ttl": self._wake_ttl, "grace": timedelta(seconds=grace_s)}
        (found,) = self._found(Look, _LOOK, values)
        return found

    def pick(self, *, limit: int, held: Mapping[Share, int], most: int, most_surplus: int) -> Swept:
        """Mark at most `limit` due users as woken and return them in the order in which to start.

        `held`: the slots that each share has already. An agent may have `most` in all, and of these
        `most_surplus` for surplus users. The agent with the fewest comes first, and within a share
        the user who has been due for longest.
        """
        values = {
            "limit": limit,
            "wake_ttl": self._wake_ttl,
            "agents": [share.agent for share in held],
            "surpluses": [share.surplus for share in held],
            "held": list(held.values()),
            "most": most,
            "most_surplus": most_surplus,
        }
        rows: Sequence[Row] = ()
        if limit > 0:
            with self._database.transaction() as connection:
                connection.execute(_PREPARE, values)
                rows = connection.execute(_PICK, values).fetchall()
        return Swept(
            due=tuple(
                Due(ChannelUserId(row.id), Share(row.agent, row.surplus))
                for row in rows
                if row.id is not None
            ),
            crowded=frozenset(Share(row.agent, row.surplus) for row in rows if row.id is None),
        )

    def forget_wake(self, user_id: ChannelUserId) -> None:
        """Let any sweeper wake this user again at once."""
        self._change(_FORGET_WAKE, {"user_id": user_id})
