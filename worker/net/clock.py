"""The clock of local deadlines."""

import time

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS has no BOOTTIME


def boottime() -> float:
    """Return the seconds since boot, sleep included. Only differences mean anything."""
    return time.clock_gettime(_CLOCK)
