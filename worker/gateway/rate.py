"""Limits the messages of one source, so that one producer in a loop does not fill the inbox."""

import math
import time
from typing import Final

from worker.gateway.body import RefusedError

_BURST_S: Final = 10.0
_MAX_SOURCES: Final = 10_000


class SourceRate:
    """A token bucket for each source, in this process. Used on the event loop alone."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._full_at: dict[str, float] = {}
        """When the source's bucket is full again, by the monotonic clock."""

    def take(self, source: str, messages: int = 1) -> None:
        """Count messages. Raises `RefusedError` if those before them were too many."""
        now = time.monotonic()
        full_at = max(self._full_at.pop(source, now), now)
        wait_s = full_at - now - _BURST_S
        if wait_s <= 0:
            full_at += messages / self._per_second
        # The last place: those at the front were idle for longest.
        self._full_at[source] = full_at
        if len(self._full_at) > _MAX_SOURCES:
            del self._full_at[next(iter(self._full_at))]
        if wait_s > 0:
            fix = f"at most {self._per_second:g} messages a second: again in {math.ceil(wait_s)} s"
            raise RefusedError(429, "rate", fix)
