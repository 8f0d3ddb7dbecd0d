"""The sweeper: finds due users that no worker has claimed, and has them answered.

It runs in every worker and needs no broker. Idle workers share the looks (worker/queue/fleet.py),
one with turns in progress looks every second. It publishes a wake for each due user, so that any
process may answer. If wakes cannot be published, or if users wait for slots of this process, the
turns run here.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from worker.domain.errors import BrokerAwayError
from worker.domain.fairness import Share
from worker.domain.ids import ChannelUserId
from worker.domain.timing import Timing
from worker.handlers.telemetry.intake import work_logged
from worker.handlers.turns.rate_limit import LOOK_S, RateLimiter
from worker.handlers.turns.slots import TurnSlots
from worker.observability.logs import log
from worker.queue.fleet import FLEET
from worker.store.delivery.deliveries import DeliveryStore
from worker.store.turns.due_users import Due, SweepStore

SHORTEST_SLEEP_S = 0.02
"""Shortest pause between two looks, however often the sweeper is roused."""


@dataclass(frozen=True, kw_only=True)
class LocalRunner:
    """Runs work for channel users in this process, without a Celery task."""

    work: Callable[..., object]
    most: int
    submit: Callable[..., Future[None]]
    _running: set[Future[None]] = field(default_factory=set)

    @property
    def free(self) -> int:
        """How many more may run at once."""
        return self.most - len(self._running)

    def __call__(self, user_id: ChannelUserId, *about: Share) -> None:
        """Run the work for a user on a thread of the pool; `about` are its further arguments."""
        future = self.submit(self._run, user_id, *about)
        self._running.add(future)
        future.add_done_callback(self._running.discard)

    def _run(self, user_id: ChannelUserId, *about: Share) -> None:
        with work_logged(user_id):
            self.work(user_id, *about)


@dataclass(frozen=True, kw_only=True)
class Sweeper:
    """One look for due work."""

    sweeps: SweepStore
    slots: TurnSlots
    timing: Timing
    publish: Callable[[Sequence[Due]], None]
    """Publishes wakes; raises `BrokerAwayError`."""
    run_here: LocalRunner
    deliveries: DeliveryStore
    deliver_here: LocalRunner
    """Runs deliveries whose wake got lost, and retries."""
    drain: Callable[[], None]
    """Has the inbox drained."""
    retention: Callable[[], bool] | None = None
    """Applies a little of the retention, once an hour; returns whether more is to be done at once.
    None = everything is kept."""
    rate_limiter: RateLimiter = field(default_factory=RateLimiter)

    def __call__(self) -> float:
        """Look, and do what is due; return the seconds until the next look."""
        every_s = self.timing.sweep_s
        look = self.sweeps.look(grace_s=every_s)
        if look.inbox:
            self.drain()
        found = look.users or self.slots.short
        self.slots.rate_limited = found and self._wake()
        if look.deliveries and (free := self.deliver_here.free):
            for user_id in self.deliveries.due(limit=free, grace_s=every_s):
                self.deliver_here(user_id)
        has_more = self.retention is not None and self.retention()
        # While this process has work it also takes what others cannot: they may be full.
        is_busy = found or look.deliveries or has_more or self.slots.busy > 0
        self.slots.rests = not is_busy
        next_s = every_s if is_busy else FLEET.look_in_s(every_s, look.now_s)
        # What becomes due later than that, another process sees before.
        if look.next_due_in_s is not None and look.next_due_in_s < FLEET.gap_s(every_s):
            next_s = min(next_s, look.next_due_in_s)
        if self.slots.rate_limited:
            next_s = min(next_s, LOOK_S)
        return max(next_s, SHORTEST_SLEEP_S)

    def _wake(self) -> bool:
        """Have as many users answered as there are slots; True = the others wait for permits."""
        capacity = self.slots.capacity()
        limit = self.rate_limiter.capacity(capacity.free)
        swept = self.sweeps.pick(
            limit=limit,
            held=capacity.held,
            most=capacity.most,
            most_surplus=capacity.most_surplus,
        )
        # Without capacity nothing was picked, and the waiting shares stay noted.
        if limit:
            self.slots.promise((one.share for one in swept.due), crowded=swept.crowded)
        if swept.due:
            log.debug("sweep.found", users=len(swept.due))
            self._start(swept.due, here=capacity.short)
        return len(swept.due) == limit < capacity.free

    def _start(self, due: Sequence[Due], *, here: bool) -> None:
        """Start their turns in this process (`here`), or in any process by a wake."""
        # When users waited for slots of this process, its own slots have just come free. A wake
        # would cost as much as half a turn, and might reach a process without a free slot.
        # And a wake does not tell another process that a turn is surplus.
        mine = [one for one in due if here or one.share.surplus]
        if len(mine) < len(due):
            try:
                self.publish([one for one in due if not one.share.surplus])
            # Without a broker the turns run here: no message may wait for Redis.
            except BrokerAwayError:
                mine = list(due)
        for one in mine:
            self.run_here(*one)
