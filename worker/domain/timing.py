"""The waits of the turn protocol, in seconds. Chaos tests divide all of them by one number."""

from dataclasses import dataclass
from typing import Final

MAX_TASK_S: Final = 60.0
"""After this time a task takes no further turn; the user's next one is another task's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Waits and limits that decisions use."""

    send_grace_s: float = 2.0
    """The first byte of a call is sent within this time of its committed intent, or never."""
    lease_margin_s: float = 15.0
    """A lease outlives the longest step (one call) by this."""
    execution_limit_s: float = 90.0
    """The longest time that Telnyx may work on a request after we gave it up."""
    quiet_margin_s: float = 13.0
    settle_s: float = 15.0
    """Wait after a 5xx before the next call; anything that Telnyx stored is visible by then."""
    give_up_after_s: float = 900.0
    """A turn that was tried several times gets the fallback this long after its first try."""
    max_unknown_calls: int = 3
    """After this number of calls of unknown outcome, the turn gets the fallback."""
    look_first_s: float = 2.0
    look_limit_s: float = 15.0
    """Bounds of the wait between two reads of a conversation; it grows with the call's age."""
    heartbeat_s: float = 5.0
    alive_s: float = 15.0
    """A worker that has not renewed its row for this long is dead, and its leases with it."""
    sweep_s: float = 1.0
    """How often some sweeper looks; idle processes share the looks."""
    wake_ttl_s: float = 10.0
    """A wake that was not followed for this long counts as lost, and another is sent."""

    stall_after_s: float = 60.0
    """A worker that took no entry for this long, while some waited, ends itself."""
    drain_s: float = 80.0
    """Time for running calls to end before that."""
    watch_s: float = 5.0
    """Interval of the stall watchdog."""

    def quiet_s(self, call_timeout_s: float) -> float:
        """Return T_QUIET: a request missing from the conversation by then is never executed."""
        return self.send_grace_s + call_timeout_s + self.execution_limit_s + self.quiet_margin_s

    def lease_s(self, call_timeout_s: float) -> float:
        """Return the length of a lease: the longest step and a margin."""
        return call_timeout_s + self.lease_margin_s

    def look_again_s(self, age_s: float) -> float:
        """Return the wait before the next read of a conversation whose last call is `age_s` old."""
        return min(max(age_s, self.look_first_s), self.look_limit_s)


def backoff_s(attempt: int, *, first_s: float = 1.0, limit_s: float = 60.0) -> float:
    """Return the wait before attempt number `attempt` + 1: doubling, bounded."""
    # The exponent is bounded because a float overflows at 2.0 ** 1024, and attempts may go on.
    return min(limit_s, first_s * 2.0 ** min(attempt, 16))
