"""The stall watchdog: ends a worker that takes nothing although entries wait.

    taking ──nothing taken, entries wait, Redis answers──▶ stalled ──stall_after_s──▶ drain, exit

A half-open connection or a lost subscription leaves a process that looks healthy and does nothing.
If Redis is merely down, the worker stays up and sweeps.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from worker.domain.errors import BrokerAwayError
from worker.domain.timing import Timing
from worker.handlers.turns.slots import TurnSlots
from worker.observability.logs import log
from worker.queue.broker_client import BrokerClient
from worker.queue.fleet import FLEET

EMPTY_S = 5.0
"""How long an answer that the queues are empty counts, with one process: a little more than a wait
lasts; with more, both last longer."""


@dataclass(kw_only=True)
class StallWatchdog:
    """Watches the consumption of one process; one thread calls `check`."""

    broker: BrokerClient
    slots: TurnSlots
    timing: Timing
    exit: Callable[[], None]
    """Ends the process at once, with a non-zero code."""
    clock: Callable[[], float] = time.monotonic
    _taken: int = -1
    _since: float | None = None
    _is_blind: bool = False

    @property
    def stalled_s(self) -> float:
        """For how long entries have waited although none was taken; 0 = no stall."""
        return 0.0 if self._since is None else self.clock() - self._since

    def check(self) -> None:
        """Check once; end the process if the stall has lasted too long."""
        if self._is_moving():
            self._since = None
        elif self._since is None:
            self._since = self.clock()
        elif self.stalled_s >= self.timing.stall_after_s:
            self._give_up()

    def _is_moving(self) -> bool:
        taken, self._taken = self._taken, self.broker.taken_entries()
        if taken != self._taken or self.broker.is_saturated():
            return True
        # Counting takes a new connection: 60 idle processes would do little else.
        if self.clock() - self.broker.empty_at() < FLEET.spread_s(EMPTY_S):
            return True
        try:
            waiting = self.broker.waiting_entries()
        # Nothing could be taken from a broker that is away, so this is no stall of ours. Yet it is
        # logged: if only the count fails, no stall would ever be seen.
        except BrokerAwayError as error:
            if not self._is_blind:
                log.warning("watchdog.count_failed", error=str(error))
            self._is_blind = True
            return True
        self._is_blind = False
        return waiting == 0

    def _give_up(self) -> None:
        """Claim no more, let running calls end, then exit: the supervisor starts a new process."""
        log.error("worker.stalled", stalled_s=round(self.stalled_s))
        self.slots.close()
        deadline = self.clock() + self.timing.drain_s
        while self.slots.busy and self.clock() < deadline:
            time.sleep(min(0.1, self.timing.drain_s))
        self.exit()
