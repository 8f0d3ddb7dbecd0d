"""The time one call has: until when its first byte may leave, until when its last may come.

    started ──── send grace ───▶ send_by ─────────────────────────▶ finish_by
            first byte may leave         only waiting for the answer          the call is over

The clock is CLOCK_BOOTTIME, which unlike the monotonic clock goes on while the machine sleeps: a
worker that wakes up late must not send a request that others reconciled long ago.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from worker.net.answer import IncompleteAnswerError
from worker.net.clock import boottime

DEADLINE_PASSED: Final = "deadline passed"


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
        """Return the seconds in which the first byte may still leave.

        Raises IncompleteAnswerError once there are none.
        """
        left_s = self.send_by - self.clock()
        if left_s <= 0:
            raise IncompleteAnswerError(f"send {DEADLINE_PASSED}")
        return left_s

    def left_s(self) -> float:
        """Return the seconds until the call is given up. Raises `over` once there are none."""
        # Never zero: as a socket's timeout that would mean non-blocking.
        left_s = min(self.finish_by, self.heard_by) - self.clock()
        if left_s <= 0:
            raise self.over()
        return left_s

    def expect_within(self, silence_s: float) -> None:
        """Give the call up in `silence_s` unless this is called again; `finish_by` still holds."""
        self.heard_by = self.clock() + silence_s

    def over(self) -> IncompleteAnswerError:
        """Return the error of a call that is given up: by its deadline or a stream's silence."""
        silent = self.heard_by < self.finish_by
        return IncompleteAnswerError("stream silent" if silent else DEADLINE_PASSED)
