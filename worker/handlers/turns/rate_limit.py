"""Keeps the calls of all workers at one rate: a call waits for its permit, or its user stays due.

    fresh      its message has just arrived: it goes behind the users who wait already
    woken      a sweeper has woken it, and sweepers wake no more than can go soon
    under way  its turn has begun, and a tool's output waits: it goes first, and waits longest

Users who wait are due users in Postgres, the longest due first; they hold no slot and no lease.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.net.clock import boottime
from worker.store.limits.rates import RateStore

FRESH_S = 0.25
WOKEN_S = 1.0
UNDER_WAY_S = 5.0
"""How long each of the three waits for its permit."""
AHEAD_S = 0.75
"""Sweepers wake as many users as can go within this. It is more than `FRESH_S`, so that fresh
messages do not overtake the users who wait."""
LOOK_S = 0.25
"""How soon a sweeper looks again while no permit is near."""
GOOD_FOR_S = 1.0
"""An unused permit may be used by another call of this process for this long."""


@dataclass(kw_only=True)
class RateLimiter:
    """One serves all turns of a process; its sweeper has another, on a pool of its own.

    Without `rates` nothing waits, and Postgres is not asked.
    """

    rates: RateStore | None = None
    sleep: Callable[[float], None] = time.sleep
    _spare: list[float] = field(default_factory=list)
    """Unused permits: the times at which they became valid."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def acquire(self, patience_s: float) -> float | None:
        """Wait for a call's permit; None = it is too far away. Raises `DatabaseAwayError`."""
        if self.rates is None:
            return 0.0
        # Permits are spaced over all workers, so one that goes unused would cost a whole call.
        spare = self._take_spare()
        if spare is not None:
            return spare
        wait_s = self.rates.reserve(patience_s)
        if wait_s is None:
            return None
        if wait_s > 0:
            self.sleep(wait_s)
        return boottime()

    def release(self, permit: float) -> None:
        """Leave an unused permit to the next call of this process."""
        if self.rates is not None:
            with self._lock:
                self._spare.append(permit)

    def capacity(self, free: int) -> int:
        """Return for how many of the free slots permits are near. Raises `DatabaseAwayError`."""
        if self.rates is None or free == 0:
            return free
        ahead_s = AHEAD_S - self.rates.lead_s()
        return min(free, 1 + int(ahead_s * self.rates.calls_per_second)) if ahead_s >= 0 else 0

    def _take_spare(self) -> float | None:
        good_since = boottime() - GOOD_FOR_S
        with self._lock:
            while self._spare:
                permit = self._spare.pop()
                if permit >= good_since:
                    return permit
        return None
