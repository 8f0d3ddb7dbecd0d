"""The sweeper: finds due users that nobody works on and has them answered.

It runs in every worker and needs no broker. Whoever is due is told by a wake, so that any process
may answer him; where none can be published, or where slots of this process are what people wait
for, the turns run here.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

from worker.domain.errors import RetryableError
from worker.domain.ids import ChannelUserId
from worker.domain.timing import Timing
from worker.handlers.background.watchdog import StallWatchdog
from worker.handlers.turns.rate_limit import LOOK_S, Pace
from worker.handlers.turns.slots import TurnSlots
from worker.observability.logs import log
from worker.store.delivery.deliveries import DeliveryStore
from worker.store.intake.inbox_listener import InboxListener
from worker.store.turns.due_users import Due, SweepStore

_Result = TypeVar("_Result")

SHORTEST_SLEEP_S = 0.02
"""Between two looks, however often the sweeper is roused: slots that come free are many then."""


class CannotPublishError(Exception):
    """The broker is away; some wakes may have been published."""


class LocalRunner:
    """Runs work for channel users in this process, without a task of the broker's."""

    def __init__(
        self, work: Callable[..., object], *, most: int, submit: Callable[..., Future[None]]
    ) -> None:
        self._work = work
        self._most = most
        self._submit = submit
        self._running: set[Future[None]] = set()

    @property
    def free(self) -> int:
        """How many more should run at once."""
        return self._most - len(self._running)

    def __call__(self, user_id: ChannelUserId, *about: str) -> None:
        """Work for a user on a thread of the pool; the work is told what else is known."""
        future = self._submit(self._run, user_id, *about)
        self._running.add(future)
        future.add_done_callback(self._running.discard)

    def _run(self, user_id: ChannelUserId, *about: str) -> None:
        try:
            self._work(user_id, *about)
        except RetryableError as error:
            log.warning("work.postponed", user=user_id, error=str(error))
        except Exception as error:
            log.error("work.failed", user=user_id, error=type(error).__name__)
            raise


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One look for due work."""

    sweeps: SweepStore
    slots: TurnSlots
    timing: Timing
    publish: Callable[[Sequence[Due]], None]
    """Publishes wakes; raises `CannotPublishError`."""
    run_here: LocalRunner
    deliveries: DeliveryStore
    deliver_here: LocalRunner
    """Runs deliveries whose wake got lost, and those that are to be tried again."""
    retention: Callable[[], None] | None = None
    """Does a little of it where it is time; None = everything is kept."""
    pace: Pace = field(default_factory=Pace)

    def __call__(self) -> float:
        """Wake whom there are free slots for; gives the seconds until the next look."""
        room = self.slots.room()
        limit = self.pace.room(room.free)
        swept = self.sweeps.pick(limit=limit, held=room.held, most=room.most)
        if limit:
            self.slots.promise((one.agent for one in swept.due), crowded=swept.crowded)
        self.slots.paced = len(swept.due) == limit < room.free
        if swept.due:
            log.debug("sweep.found", users=len(swept.due))
            self._start(swept.due, here=room.short)
        if overdue := self.deliver_here.free:
            grace_s = self.timing.sweep_s
            for user_id in self.deliveries.due(limit=overdue, grace_s=grace_s):
                self.deliver_here(user_id)
        if self.retention is not None:
            self.retention()
        next_s = self.timing.sweep_s if swept.next_due_in_s is None else swept.next_due_in_s
        if self.slots.paced:
            next_s = min(next_s, LOOK_S)
        return min(max(next_s, SHORTEST_SLEEP_S), self.timing.sweep_s)

    def _start(self, due: Sequence[Due], *, here: bool) -> None:
        """Have their turns started: by this process, or by whichever follows the wake.

        Where this process was short of slots, it is these that have come free: a wake would cost
        as much as half a turn, and might end up where there is none.
        """
        if not here:
            try:
                self.publish(due)
            except CannotPublishError:
                pass
            else:
                return
        for one in due:
            self.run_here(*one)


@dataclass(kw_only=True)
class Background:
    """The threads that every worker has beside Celery's: heartbeat, sweeper, watchdog, inbox."""

    beat: Callable[[float], None]
    """Takes for how long the consumer has been stalled, in seconds."""
    pin: Callable[[], None] | None
    """Keeps this process on one core; called between the first heartbeat and the first thread."""
    leave: Callable[[], None]
    forget_dead: Callable[[], None]
    drain_inbox: Callable[[], bool]
    """Gives whether there may be more."""
    listener: InboxListener
    sweep: Callable[[], float]
    watchdog: StallWatchdog
    slots: TurnSlots
    timing: Timing
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Commit the first heartbeat, then start the threads. Raises `RetryableError`."""
        self.beat(0.0)
        if self.pin is not None:
            self.pin()
        self.forget_dead()
        loops = {
            "heartbeat": self._beat_forever,
            "sweeper": self._sweep_forever,
            "watchdog": self._watch_forever,
            "inbox": self._drain_forever,
        }
        for name, loop in loops.items():
            thread = threading.Thread(target=loop, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop_claiming(self) -> None:
        """Let no new turn start here; heartbeats go on for those that run."""
        self.slots.close()

    def stop(self) -> None:
        """End the threads and give this process's leases free."""
        self.slots.close()
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=self.timing.heartbeat_s)
        try:
            self.leave()
        except RetryableError:
            log.warning("worker.left_silently")

    def _beat_forever(self) -> None:
        while not self._stop.wait(self.timing.heartbeat_s):
            _tried("heartbeat", lambda: self.beat(self.watchdog.stalled_s), None)

    def _watch_forever(self) -> None:
        while not self._stop.wait(self.timing.watch_s):
            if not self.slots.closed:
                _tried("watchdog", self.watchdog.check, None)

    def _drain_forever(self) -> None:
        while not self._stop.is_set() and not self.slots.closed:
            if not _tried("inbox", self.drain_inbox, False):  # noqa: FBT003 - what it gives else
                self.listener.wait(self.timing.sweep_s, self._stop)
        self.listener.close()

    def _sweep_forever(self) -> None:
        sleep_s = 0.0
        while not self._stop.is_set():
            self.slots.roused.wait(sleep_s)
            self.slots.roused.clear()
            if self.slots.closed:
                return
            sleep_s = _tried("sweep", self.sweep, self.timing.sweep_s)
            self._stop.wait(SHORTEST_SLEEP_S)


def _tried(name: str, work: Callable[[], _Result], otherwise: _Result) -> _Result:
    """Do one round of a thread's work; it goes on whatever fails, for nobody would miss it."""
    try:
        return work()
    except RetryableError as error:
        log.warning(f"{name}.failed", error=str(error))
    except Exception as error:  # noqa: BLE001 - see above
        log.error(f"{name}.defect", error=type(error).__name__)
    return otherwise
