"""The time one call has: until when its first byte may leave, until when its last may come.

    started ──── send grace ───▶ send_by ─────────────────────────▶ finish_by
            first byte may leave         only waiting for the answer          the call is over

The clock is CLOCK_BOOTTIME, which unlike the monotonic clock goes on while the machine sleeps: a
worker that wakes up late must not send a request that others reconciled long ago.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from worker.net.clock import boottime


@dataclass(slots=True, kw_only=True)
class CallWindow:
    """The deadlines of ONE call, and whether a byte of it was sent. Not to be used twice."""

    send_by: float
    finish_by: float
    clock: Callable[[], float] = boottime
    wrote: bool = False
    """True from just before the first byte goes to the kernel: the other side may have seen it."""
    heard_by: float = math.inf
    """When a stream has been silent for too long; infinite unless a stream is read."""

    @classmethod
    def since(cls, started: float, *, timeout_s: float, send_grace_s: float) -> Self:
        """Return the window of a call whose intent was noted at `started` (of `boottime`)."""
        finish_by = started + timeout_s
        return cls(send_by=min(started + send_grace_s, finish_by), finish_by=finish_by)

    @classmethod
    def starting_now(cls, timeout_s: float) -> Self:
        """Return the window of a call without an intent: it may send as long as it may wait."""
        return cls.since(boottime(), timeout_s=timeout_s, send_grace_s=timeout_s)

    def left_to_send_s(self) -> float:
        """Return the seconds in which the first byte may still leave; zero or less: too late."""
        return self.send_by - self.clock()

    def left_s(self) -> float:
        """Return the seconds until the call is given up; zero or less: it is over."""
        return min(self.finish_by, self.heard_by) - self.clock()

    def expect_within(self, silence_s: float) -> None:
        """Give the call up in `silence_s` unless this is called again; `finish_by` still holds."""
        self.heard_by = self.clock() + silence_s

    @property
    def ends_by_silence(self) -> bool:
        """Whether the stream's silence will end the call, and not its deadline."""
        return self.heard_by < self.finish_by
