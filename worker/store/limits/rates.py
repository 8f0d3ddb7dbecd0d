"""The rate of calls that all workers share: when the next one may go, in one row.

Each call reserves its own moment, `gap` after the one before (GCRA, the leaky bucket without a
burst). One statement, a transaction by itself, so that nobody waits long for the row.
"""

from datetime import timedelta

from worker.store.database import Database
from worker.store.sql import sql

_FARTHEST_S = 10.0
"""More than anybody waits, see `worker.handlers.turns.rate_limit`."""

# A row further ahead than anybody ever reserves is of a slower rate, or of a clock that was wrong.
_RESERVE = sql("""
INSERT INTO rates AS r (name, free_at) VALUES ('calls', service_now() + :gap)
ON CONFLICT (name) DO UPDATE SET free_at = :gap + CASE
    WHEN r.free_at BETWEEN service_now() AND service_now() + :longest THEN r.free_at
    ELSE service_now() END
WHERE r.free_at <= service_now() + :patience OR r.free_at > service_now() + :longest
RETURNING extract(epoch FROM free_at - :gap - service_now())
""")
_LEAD = sql("""
SELECT extract(epoch FROM free_at - service_now()) FROM rates
WHERE name = 'calls' AND free_at BETWEEN service_now() AND service_now() + :longest
""")


class RateStore:
    """Moments at which calls may go."""

    def __init__(self, database: Database, *, calls_per_second: float) -> None:
        self._database = database
        self.calls_per_second = calls_per_second
        self._gap = timedelta(seconds=1 / calls_per_second)
        self._longest = timedelta(seconds=_FARTHEST_S) + self._gap

    def reserve(self, patience_s: float) -> float | None:
        """Reserve the next moment; gives in how many seconds it is. None = it is too far away."""
        values = {
            "gap": self._gap,
            "patience": timedelta(seconds=patience_s),
            "longest": self._longest,
        }
        with self._database.statement() as connection:
            wait_s = connection.execute(_RESERVE, values).scalar_one_or_none()
        return None if wait_s is None else float(wait_s)

    def lead_s(self) -> float:
        """Give in how many seconds the first moment is that nobody has reserved; 0 = now."""
        with self._database.statement() as connection:
            found = connection.execute(_LEAD, {"longest": self._longest}).scalar_one_or_none()
        return 0.0 if found is None else float(found)
