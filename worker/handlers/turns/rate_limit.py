"""Keeping all workers' calls at one rate: a call waits for its permit, or leaves the user in line.

    fresh     its message has just come in: where others wait already, it goes behind them
    woken     a sweeper has sent it, and sweepers send no more than can go soon
    under way its turn has begun, and a tool's output waits: it goes first, and waits for longest

Those behind wait as due users in Postgres, the longest due first, not in a slot and not claimed.
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
"""So long does each wait for its permit."""
AHEAD_S = 0.75
"""Sweepers send as many as can go within this. More than `FRESH_S`: so they keep the line moving,
and what is fresh does not get past it."""
LOOK_S = 0.25
"""How soon a sweeper looks again while the line stands."""
GOOD_FOR_S = 1.0
"""A permit that no call came of serves another call of the process for so long."""


@dataclass(kw_only=True)
class RateLimiter:
    """One for all who answer in a process, and one for its sweeper, on a pool of its own.

    Without rates nothing waits, and nothing is asked.
    """

    rates: RateStore | None = None
    sleep: Callable[[float], None] = time.sleep
    _spare: list[float] = field(default_factory=list)
    """Permits that no call came of."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def acquire(self, patience_s: float) -> float | None:
        """Wait for the permit of a call and give it; None = it is too far away.

        Raises `DatabaseAwayError`.
        """
        if self.rates is None:
            return 0.0
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
        """Leave a permit that no call came of to the next call of this process."""
        if self.rates is not None:
            with self._lock:
                self._spare.append(permit)

    def capacity(self, free: int) -> int:
        """Give for how many of so many free slots calls can go soon. Raises `DatabaseAwayError`."""
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
