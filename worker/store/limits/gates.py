"""Gates: rows that keep every worker from making a call until a time.

The gates of webhook endpoints are rows of the same table, see `worker.store.delivery.endpoints`.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from worker.domain.reports.message_history import ClosedGate
from worker.domain.turns.plan import GateClosing
from worker.store.rows import value_of
from worker.store.sql import Connection, sql

FIRST_WAIT_S = 15.0
LONGEST_WAIT_S = 60.0
"""Short, so that an operator who has fixed the key soon sees it work."""

# Many calls that fail together while the gate is closed count as one strike.
NEW_STRIKE = "CASE WHEN g.closed_until > service_now() THEN 0 ELSE 1 END"
# The exponent is bounded, for an interval cannot hold 15 s times two to the thousandth power.
BACKOFF = "least(:longest, :first * power(2, least(g.strikes, 16)))"

_ALL = sql("SELECT name, closed_until FROM gates")
_CLOSED = sql("""
SELECT name, closed_until, reason FROM gates WHERE closed_until > service_now() ORDER BY name
""")
# `greatest`: of two refusals the longer Retry-After counts, whichever comes last.
_CLOSE = sql(f"""
INSERT INTO gates AS g (name, closed_until, reason, strikes, changed_at)
VALUES (:name, service_now() + coalesce(:wait, :first), :reason, 1, service_now())
ON CONFLICT (name) DO UPDATE SET
    closed_until = greatest(g.closed_until,
        service_now() + coalesce(:wait, {BACKOFF})),
    reason = excluded.reason,
    strikes = g.strikes + {NEW_STRIKE},
    changed_at = service_now()
""")
_REOPEN = sql("DELETE FROM gates WHERE name = ANY(:names)")


def read_gates(connection: Connection) -> Mapping[str, datetime]:
    """Return when each gate opens, or opened: a row in the past goes with the next success."""
    return {row.name: row.closed_until for row in connection.execute(_ALL)}


def closed_gates(connection: Connection) -> tuple[ClosedGate, ...]:
    """Return the gates that are closed now, by name."""
    return tuple(value_of(ClosedGate, row) for row in connection.execute(_CLOSED))


def reopen_gates(connection: Connection, names: Collection[str]) -> None:
    """Open gates and forget their strikes."""
    connection.execute(_REOPEN, {"names": list(names)})


def close_gate(connection: Connection, closing: GateClosing) -> None:
    """Close a gate, for longer with each strike in a row."""
    connection.execute(
        _CLOSE,
        {
            "name": closing.name,
            "reason": closing.reason,
            "wait": None if closing.wait_s is None else timedelta(seconds=closing.wait_s),
            "first": timedelta(seconds=FIRST_WAIT_S),
            "longest": timedelta(seconds=LONGEST_WAIT_S),
        },
    )
