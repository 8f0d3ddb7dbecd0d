"""Gates: closed doors with a time on them, shared by all workers."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from worker.domain.reports.message_history import ClosedGate
from worker.domain.turns.plan import GateClosing
from worker.store.sql import Connection, sql

FIRST_WAIT_S = 15.0
LONGEST_WAIT_S = 60.0
"""An operator who has mended the key should not wait long to see it work."""

_ALL = sql("SELECT name, closed_until FROM gates")
_CLOSED = sql("""
SELECT name, closed_until, reason FROM gates WHERE closed_until > service_now() ORDER BY name
""")
_CLOSE = sql("""
INSERT INTO gates AS g (name, closed_until, reason, strikes, changed_at)
VALUES (:name, service_now() + coalesce(:wait, :first), :reason, 1, service_now())
ON CONFLICT (name) DO UPDATE SET
    closed_until = greatest(g.closed_until,
        service_now() + coalesce(:wait, least(:longest, :first * power(2, g.strikes)))),
    reason = excluded.reason,
    -- A whole crowd that fails together is one strike.
    strikes = g.strikes + CASE WHEN g.closed_until > service_now() THEN 0 ELSE 1 END,
    changed_at = service_now()
""")
_REOPEN = sql("DELETE FROM gates WHERE name = ANY(:names)")


def read_gates(connection: Connection) -> Mapping[str, datetime]:
    """Give until when each gate is or was closed; one that is past waits for its first success."""
    return {row.name: row.closed_until for row in connection.execute(_ALL)}


def closed_gates(connection: Connection) -> tuple[ClosedGate, ...]:
    """Give the gates that are closed now, by name."""
    return tuple(
        ClosedGate(name=row.name, closed_until=row.closed_until, reason=row.reason)
        for row in connection.execute(_CLOSED)
    )


def reopen_gates(connection: Connection, names: Collection[str]) -> None:
    """Open gates and forget their strikes."""
    connection.execute(_REOPEN, {"names": list(names)})


def close_gate(connection: Connection, closing: GateClosing) -> None:
    """Close a gate, for longer with each closing in a row."""
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
