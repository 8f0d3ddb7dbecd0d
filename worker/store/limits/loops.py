"""The loop breaker: a cheap look with each message, a close one if that finds something.

The close look reads at most 200 users next to the sender in the order of addresses, so a machine
that changes its address is found, however many people its domain or block of numbers has.
"""

from dataclasses import replace

from worker.domain.routing import Routing
from worker.domain.turns.claim import Claimed
from worker.domain.turns.loops import (
    BURST,
    HOURLY,
    LOOP,
    MAX_COMPARED,
    MIN_SAME,
    RecentTurn,
    loop_rule,
)
from worker.domain.turns.records import Snapshot
from worker.store.rows import value_of
from worker.store.sql import Connection, sql

_NEIGHBOURS = 100
"""Users before the sender, and after; theirs among them."""

# Rows are compared, because with `=` the planner drops the user from the order. Then the primary
# key would do, and for somebody who seldom writes the turns of everybody would be read.
_NEWEST = """FROM turns t
    WHERE (t.channel_user_id, t.id) > ({0}, 0) AND (t.channel_user_id, t.id) < ({0} + 1, 0)
    ORDER BY t.channel_user_id DESC, t.id DESC"""


def may_loop(text: str) -> str:
    """Return a condition on a row `u` of channel_users, true if the close look is needed.

    `text`: an expression for what the user writes. Reads at most the user's newest 25 turns, and of
    a user who seldom writes 10.
    """
    newest = _NEWEST.format("u.id")
    most, burst = BURST
    most_hourly, hour = HOURLY
    since_burst = f"service_now() - interval '{burst.total_seconds():.0f} s'"
    since_hour = f"service_now() - interval '{hour.total_seconds():.0f} s'"
    return f"""(
    coalesce((SELECT CASE WHEN opened_at <= {since_hour} THEN false
            WHEN opened_at > {since_burst} THEN true
            ELSE (SELECT opened_at {newest} OFFSET {most_hourly - 1} LIMIT 1) > {since_hour} END
        FROM (SELECT opened_at {newest} OFFSET {most - 1} LIMIT 1) AS tenth), false)
    OR char_length({text}) >= {MIN_SAME} AND 2 = (SELECT count(*)
        FROM (SELECT t.input_text, t.opened_at {newest} LIMIT 2) AS last
        WHERE opened_at > {since_hour}
          AND (left(input_text, 8) = left({text}, 8)
            OR right(input_text, 8) = right({text}, 8))))"""


_RECENT = sql(f"""
WITH near AS (
    (SELECT id, address, created_at FROM channel_users
     WHERE address_group = :group AND address >= :address
     ORDER BY address, id DESC LIMIT {_NEIGHBOURS})
    UNION ALL
    (SELECT id, address, created_at FROM channel_users
     WHERE address_group = :group AND address < :address
     ORDER BY address DESC, id DESC LIMIT {_NEIGHBOURS})
)
SELECT near.address, t.kind, t.opened_at, left(t.input_text, {MAX_COMPARED}) AS text
FROM near, LATERAL (SELECT kind, opened_at, input_text {_NEWEST.format("near.id")}
    LIMIT {HOURLY[0]}) AS t
WHERE (near.address = :address OR near.created_at > service_now() - :hour)
  AND t.opened_at > service_now() - :hour AND t.opened_at < :before
ORDER BY t.opened_at DESC LIMIT 200
""")
_PAUSE = sql("""
UPDATE channel_users SET paused_at = service_now(), pause_reason = :reason WHERE id = :user_id
""")


def break_loop(connection: Connection, snapshot: Snapshot, routing: Routing) -> Snapshot:
    """Pause the user if their next turn continues a loop; the caller has just claimed them."""
    if not (snapshot.may_loop and snapshot.pending) or snapshot.paused or snapshot.opted_out:
        return snapshot
    rule = pause_if_loop(connection, snapshot, snapshot.pending[0].text, routing)
    return snapshot if rule is None else replace(snapshot, paused=True, loop=rule)


def pause_if_loop(
    connection: Connection, user: Snapshot | Claimed, text: str, routing: Routing
) -> str | None:
    """Look closely at what was written, before `now`; return the rule by which they are paused."""
    who = user.who
    if not routing.channel(who.channel).breaks_loops:
        return None
    group = routing.fairness.group_of(who.channel, who.address)
    values = {"group": group, "address": who.address, "hour": HOURLY[1], "before": user.now}
    recent = [value_of(RecentTurn, row) for row in connection.execute(_RECENT, values)]
    rule = loop_rule(who.address, text, recent, now=user.now)
    if rule is not None:
        connection.execute(_PAUSE, {"user_id": user.lease.user_id, "reason": LOOP})
    return rule
