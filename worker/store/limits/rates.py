"""The rate of calls that all workers share: one row with the time of the next permit.

Each call reserves a permit, `gap` after the one before (GCRA, the leaky bucket without a burst).
One statement, a transaction by itself, so that no other process waits long for the row.
"""

from datetime import timedelta

from worker.store.database import Database, Store
from worker.store.sql import sql

_FARTHEST_S = 10.0
"""Longer than any caller's patience, see `worker.handlers.turns.rate_limit`."""


def next_free(longest: str) -> str:
    """Return the SQL of the next permit of a row `r`; `longest`: the farthest anybody reserves."""
    # A row further ahead was written at a slower rate, or with a wrong clock.
    return f"""CASE WHEN r.free_at BETWEEN service_now() AND service_now() + {longest}
        THEN r.free_at ELSE service_now() END"""


_RESERVE = sql(f"""
INSERT INTO rates AS r (name, free_at) VALUES ('calls', service_now() + :gap)
ON CONFLICT (name) DO UPDATE SET free_at = :gap + {next_free(":longest")}
WHERE r.free_at <= service_now() + :patience OR r.free_at > service_now() + :longest
RETURNING extract(epoch FROM free_at - :gap - service_now())
""")
_LEAD = sql("""
SELECT extract(epoch FROM free_at - service_now()) FROM rates
WHERE name = 'calls' AND free_at BETWEEN service_now() AND service_now() + :longest
""")


class RateStore(Store):
    """Reserves permits for calls."""

    def __init__(self, database: Database, *, calls_per_second: float) -> None:
        super().__init__(database)
        self.calls_per_second = calls_per_second
        gap = timedelta(seconds=1 / calls_per_second)
        self._values = {"gap": gap, "longest": timedelta(seconds=_FARTHEST_S) + gap}

    def reserve(self, patience_s: float) -> float | None:
        """Reserve the next permit and return the seconds until it; None = it is too far away."""
        row = self._row(_RESERVE, self._values | {"patience": timedelta(seconds=patience_s)})
        return None if row is None else float(row[0])

    def lead_s(self) -> float:
        """Return the seconds until the first permit that is not reserved; 0 = now."""
        row = self._row(_LEAD, self._values)
        return 0.0 if row is None else float(row[0])
