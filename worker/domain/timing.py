"""The waits of the turn protocol, in seconds. Chaos tests divide them all and keep their ratios."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Every wait that a decision knows."""

    send_grace_s: float = 2.0
    """The first byte of a call leaves within this of its committed intent, or never."""
    lease_margin_s: float = 15.0
    """A lease outlives the longest step (one call) by this."""
    execution_limit_s: float = 90.0
    """The longest that Telnyx may go on working on a request that we gave up."""
    quiet_margin_s: float = 13.0
    settle_s: float = 15.0
    """A refusal by 5xx is not repeated before this; what it stored shows up within it."""
    give_up_after_s: float = 900.0
    """A turn that was tried several times, and first so long ago, gets the fallback."""
    max_unknown_calls: int = 3
    """So many calls of unknown outcome, and the turn gets the fallback."""
    look_first_s: float = 2.0
    look_limit_s: float = 15.0
    """Waits between looks at a thread grow with the age of the call, between these two."""
    heartbeat_s: float = 5.0
    alive_s: float = 15.0
    """A worker that has not renewed its row for this long is dead, and its leases with it."""
    sweep_s: float = 1.0
    """The longest sleep of a sweeper."""
    wake_ttl_s: float = 10.0
    """A wake that nobody followed for this long is lost, and another is sent."""

    stall_after_s: float = 60.0
    """A worker that took nothing for so long while entries waited ends itself."""
    drain_s: float = 80.0
    """How long it lets running calls end before that."""
    watch_s: float = 5.0
    """Between two looks of the stall watchdog."""

    def quiet_s(self, call_timeout_s: float) -> float:
        """T_QUIET: after so long, a request that is not in the thread will never be executed."""
        return self.send_grace_s + call_timeout_s + self.execution_limit_s + self.quiet_margin_s

    def lease_s(self, call_timeout_s: float) -> float:
        """How long a claim holds: the longest step and a margin."""
        return call_timeout_s + self.lease_margin_s

    def look_again_s(self, age_s: float) -> float:
        """Wait before the next look at a thread whose newest call is `age_s` old."""
        return min(max(age_s, self.look_first_s), self.look_limit_s)


def backoff_s(attempt: int, *, first_s: float = 1.0, limit_s: float = 60.0) -> float:
    """Give the wait before attempt number `attempt` + 1: doubling, bounded."""
    return min(limit_s, first_s * 2.0 ** min(attempt, 16))
