"""The background threads of a worker process: heartbeat, sweeper, watchdog, inbox. Its CPU core."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from worker.domain.errors import RetryableError, named
from worker.domain.timing import Timing
from worker.handlers.background.postgres_watch import WATCHERS, PostgresWatch
from worker.handlers.background.schema import start_on_postgres
from worker.handlers.background.sweeper import SHORTEST_SLEEP_S
from worker.handlers.background.watchdog import StallWatchdog
from worker.handlers.turns.slots import TurnSlots
from worker.observability.logs import log
from worker.queue.fleet import FLEET
from worker.store.intake.inbox import InboxListener
from worker.store.locks import HeldError
from worker.store.workers import WorkerStore

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""The same for all containers of a machine, unlike the host name."""
LISTENERS = 2
"""Processes that listen for SQL producers' messages: one drains at a time in any case, and the
second notices the next message if the first one dies."""
_THREADS = Path("/proc/self/task")
_Result = TypeVar("_Result")


@dataclass(kw_only=True)
class Background:
    """Starts and stops the threads that a worker has besides Celery's."""

    workers: WorkerStore
    check_schema: Callable[[], None]
    """Raises `PermanentError` if the tables are older than the code."""
    watch: PostgresWatch
    pin_to_core: bool
    drain_inbox: Callable[[], bool]
    """Returns whether there may be more."""
    listener: InboxListener
    close_idle: Callable[[], None]
    """Closes connections that nobody has used for a while."""
    sweep: Callable[[], float]
    watchdog: StallWatchdog
    ask_telnyx: Callable[[], None]
    slots: TurnSlots
    timing: Timing
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, *, before: Callable[[], object] = lambda: None) -> None:
        """Commit the first heartbeat, then start the threads; see `start_on_postgres`."""
        start_on_postgres(self._start, before=before)

    def _start(self) -> None:
        self.check_schema()
        self.watch.beat()
        # After the heartbeat, which writes the row of this worker; before the threads inherit it.
        if self.pin_to_core:
            stay_on_one_core(self.workers)
        self.workers.forget_dead()
        self.listener.open()
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
        """Start no further turn here; heartbeats continue for those that run."""
        self.slots.close()
        self.listener.rouse()

    def stop(self) -> None:
        """End the threads and release this process's leases."""
        self.stop_claiming()
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=self.timing.heartbeat_s)
        try:
            self.workers.leave()
        # Without Postgres the leases end by themselves, a little later.
        except RetryableError:
            log.warning("worker.leave_failed")

    def _beat_forever(self) -> None:
        while not self._stop.wait(self.timing.heartbeat_s):
            _tried("heartbeat", self._beat, None)
            self.close_idle()

    def _beat(self) -> None:
        place, size = FLEET.place, FLEET.size
        self.watch.beat(self.watchdog.stalled_s)
        if place != FLEET.place:
            self.listener.rouse()
        if size > FLEET.size:
            # Others have died: what they held is free, and their looks are missed.
            self.slots.roused.set()

    def _watch_forever(self) -> None:
        # Nothing is suspected: seldom is soon enough.
        while not self._stop.wait(self.timing.watch_s * (1 if self.watchdog.stalled_s else 3)):
            if not self.slots.closed:
                _tried("watchdog", self.watchdog.check, None)
                # One asks for all.
                if FLEET.place < WATCHERS:
                    _tried("ask_telnyx", self.ask_telnyx, None)

    def _drain_forever(self) -> None:
        while not self._stop.is_set() and not self.slots.closed:
            more = _tried("inbox", self.drain_inbox, False)  # noqa: FBT003 - result after an error
            if not more:
                self.listener.wait(listens=FLEET.place < LISTENERS)

    def _sweep_forever(self) -> None:
        sleep_s = 0.0
        while not self._stop.is_set():
            roused = self.slots.roused.wait(sleep_s)
            self.slots.roused.clear()
            if self.slots.closed:
                return
            sleep_s = _tried("sweep", self.sweep, self.timing.sweep_s)
            # However often it is roused: slots that come free are many under load.
            if roused:
                self._stop.wait(SHORTEST_SLEEP_S)


def _tried(name: str, work: Callable[[], _Result], otherwise: _Result) -> _Result:
    """Run one round and log any error: a background thread that died would go unnoticed."""
    try:
        return work()
    except RetryableError as error:
        log.warning(f"{name}.failed", error=str(error))
    except Exception as error:  # noqa: BLE001 - see above
        log.error(f"{name}.defect", error=named(error))
    return otherwise


def stay_on_one_core(workers: WorkerStore) -> None:
    """Bind all threads of this process, and those they start, to the least used core.

    They share one interpreter lock. Spread over several cores they wake each other across cores and
    compute no more than on one; on one core a message costs a third less CPU (bench/README.md).

    That is the core that the fewest live workers on this machine have taken. Call it after the
    first heartbeat. Raises `DatabaseAwayError`. Without Linux, or if a sandbox forbids the system
    call, the process keeps its cores.
    """
    try:
        machine, allowed = UUID(_BOOT_ID.read_text().strip()), sorted(os.sched_getaffinity(0))
        core = workers.take_core(machine, allowed)
        for thread in _THREADS.iterdir():
            # A thread that was listed may have ended since.
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), {core})
    except (OSError, HeldError) as error:
        log.warning("worker.pin_failed", error=type(error).__name__)
    else:
        log.info("worker.pinned", core=core, of=len(allowed))
