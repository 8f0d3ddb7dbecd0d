"""Gates: rows that keep every worker from making a call until a time.

The gates of webhook endpoints are rows of the same table, see `worker.store.delivery.gates`.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from worker.domain.turns.plan import GateClosing
from worker.store.sql import Connection, sql

# Many calls that fail together while the gate is closed count as one strike.
NEW_STRIKE = "CASE WHEN g.closed_until > service_now() THEN 0 ELSE 1 END"


def backoff(longest: str) -> str:
    """Return the interval for which a gate closes: from 15 s, doubled with each strike."""
    # The exponent is bounded, for an interval cannot hold 15 s times two to the thousandth power.
    return f"least(interval '{longest}', interval '15 s' * power(2, least(g.strikes, 16)))"


_ALL = sql("SELECT name, closed_until FROM gates")
CLOSED_GATES = sql("""
SELECT name, closed_until, reason FROM gates WHERE closed_until > service_now() ORDER BY name
""")
# `greatest`: of two refusals the longer Retry-After counts, whichever comes last. A minute at most,
# so that an operator who has fixed the key soon sees it work.
_CLOSE = sql(f"""
INSERT INTO gates AS g (name, closed_until, reason, strikes, changed_at)
VALUES (:name, service_now() + coalesce(:wait, interval '15 s'), :reason, 1, service_now())
ON CONFLICT (name) DO UPDATE SET
    closed_until = greatest(g.closed_until,
        service_now() + coalesce(:wait, {backoff("1 min")})),
    reason = excluded.reason,
    strikes = g.strikes + {NEW_STRIKE},
    changed_at = service_now()
""")
_REOPEN = sql("DELETE FROM gates WHERE name = ANY(:names)")


def read_gates(connection: Connection) -> Mapping[str, datetime]:
    """Return when each gate opens, or opened: a row in the past goes with the next success."""
    return {row.name: row.closed_until for row in connection.execute(_ALL)}


def reopen_gates(connection: Connection, names: Collection[str]) -> None:
    """Open gates and forget their strikes."""
    connection.execute(_REOPEN, {"names": list(names)})


def close_gate(connection: Connection, closing: GateClosing) -> None:
    """Close a gate, for longer with each strike in a row."""
    wait = None if closing.wait_s is None else timedelta(seconds=closing.wait_s)
    connection.execute(_CLOSE, {"name": closing.name, "reason": closing.reason, "wait": wait})
