"""Compares Postgres' clock, which decides every wait, with this machine's, which cannot jump."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from worker.net.clock import boottime
from worker.observability import metrics
from worker.observability.logs import log
from worker.store.cluster import ClusterStore

TOLERANCE_S: Final = 5.0
"""A smaller jump is within the margins of all waits."""
_SHORT_S: Final = 1.0
"""A longer round trip does not say well enough when Postgres read its clock."""


@dataclass(kw_only=True)
class ServiceClock:
    """What one process knows of Postgres' clock. Without a heartbeat yet, it knows nothing.

    A jump is known only once it is recorded: who asks meanwhile waits, as the ages of calls that
    are read before would be those of the wrong clock.
    """

    cluster: ClusterStore
    local: Callable[[], float] = boottime
    _offset_s: float | None = None
    _recording: threading.Lock = field(default_factory=threading.Lock)

    def observe(self, now: datetime, before_s: float, after_s: float) -> None:
        """Take Postgres' time, read between two readings of this machine's clock."""
        low, high = now.timestamp() - after_s, now.timestamp() - before_s
        with self._recording:
            known = self._offset_s
            if known is not None and low > known + TOLERANCE_S:
                self._jumped(low - known)
            elif known is not None and high < known - TOLERANCE_S:
                self._jumped(high - known)
            if after_s - before_s < _SHORT_S:
                self._offset_s = (low + high) / 2

    def check(self, now: datetime, at_s: float) -> None:
        """Notice a jump forward before the next heartbeat does; `at_s` was read after `now`."""
        low = now.timestamp() - at_s
        with self._recording:
            known = self._offset_s
            if known is not None and low > known + TOLERANCE_S:
                self._jumped(low - known)
                self._offset_s = low

    def _jumped(self, by_s: float) -> None:
        first = self.cluster.record_jump(by_s)
        metrics.POSTGRES_CHANGES.labels("clock").inc()
        log.error("postgres.clock_jumped", by_s=round(by_s, 1), first=first)
