"""The stall watchdog, with a clock and a broker of the test."""

from dataclasses import dataclass, field
from math import inf

from structlog.testing import capture_logs

from worker.domain.errors import BrokerAwayError
from worker.domain.fairness import Share
from worker.domain.timing import Timing
from worker.handlers.background.watchdog import StallWatchdog
from worker.handlers.turns.slots import TurnSlots


@dataclass
class Bench:
    """A watchdog whose world the test moves."""

    now: float = 0.0
    taken: int = 0
    waiting: int = 0
    emptied_at: float = -inf
    saturated: bool = False
    away: bool = False
    exits: int = 0
    slots: TurnSlots = field(default_factory=lambda: TurnSlots(4))

    def __post_init__(self) -> None:
        self.watchdog = StallWatchdog(
            broker=self,
            slots=self.slots,
            timing=Timing(stall_after_s=60, drain_s=0.01),
            exit=self.exit,
            clock=lambda: self.now,
        )

    def taken_entries(self) -> int:
        return self.taken

    def empty_at(self) -> float:
        return self.emptied_at

    def is_saturated(self) -> bool:
        return self.saturated

    def waiting_entries(self) -> int:
        if self.away:
            raise BrokerAwayError
        return self.waiting

    def exit(self) -> None:
        self.exits += 1

    def watch(self, seconds: int, *, taking: bool = False) -> None:
        for _ in range(seconds // 5):
            self.now += 5
            self.taken += taking
            self.watchdog.check()


def test_entries_that_wait_a_minute_while_nothing_is_taken_end_the_process() -> None:
    bench = Bench(waiting=1)
    bench.watch(60)
    assert bench.exits == 0
    assert bench.watchdog.stalled_s >= 50
    bench.watch(10)
    assert bench.exits == 1
    assert not bench.slots.take_at_once(Share("default"), 0), "claims stop first"


def test_nothing_waiting_is_no_stall() -> None:
    bench = Bench(waiting=0)
    bench.watch(600)
    assert (bench.exits, bench.watchdog.stalled_s) == (0, 0.0)


def test_a_broker_that_is_down_is_no_stall() -> None:
    bench = Bench(waiting=1, away=True)
    bench.watch(600)
    assert bench.exits == 0


def test_entries_that_cannot_be_counted_are_logged_once_and_again_after_a_count() -> None:
    """Otherwise a watchdog whose own connection fails would pass for a healthy worker."""
    bench = Bench(waiting=0, away=True)
    with capture_logs() as logs:
        bench.watch(60)
        bench.away = False
        bench.watch(10)
        bench.away = True
        bench.watch(60)
    assert [one["event"] for one in logs] == ["watchdog.count_failed"] * 2


def test_a_worker_that_takes_something_is_not_stalled() -> None:
    bench = Bench(waiting=1000)
    bench.watch(600, taking=True)
    assert bench.exits == 0


def test_a_worker_whose_threads_are_all_busy_is_not_stalled() -> None:
    bench = Bench(waiting=1000, saturated=True)
    bench.watch(600)
    assert bench.exits == 0


def test_one_entry_taken_starts_the_count_anew() -> None:
    bench = Bench(waiting=5)
    bench.watch(50)
    bench.watch(5, taking=True)
    bench.watch(50)
    assert bench.exits == 0
