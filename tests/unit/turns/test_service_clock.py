"""What counts as a jump of Postgres' clock."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from worker.domain.errors import DatabaseAwayError
from worker.domain.turns.reconcile import sure_age_s
from worker.handlers.turns.service_clock import ServiceClock

START_S = 1_800_000_000.0


class Recorded:
    def __init__(self) -> None:
        self.jumps: list[int] = []

    def record_jump(self, by_s: float) -> bool:
        self.jumps.append(round(by_s))
        return True


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(START_S + seconds, UTC)


@pytest.mark.parametrize(
    ("beats", "jumps"),
    [
        # Postgres' time, then this machine's before and after it was read.
        ([(0, 100, 100.1), (5, 105, 105.1), (10, 110, 110.1)], []),
        ([(0, 100, 100.1), (4_000, 105, 105.1), (4_005, 110, 110.1)], [3995]),
        ([(0, 100, 100.1), (-4_000, 105, 105.1), (-3_995, 110, 110.1)], [-4005]),
        # A machine that slept for an hour, together with its Postgres or not.
        ([(0, 100, 100.1), (3_600, 3_700, 3_700.1)], []),
        # Slow answers: it may have been read at any time in between.
        ([(0, 100, 100.1), (5, 105, 135), (40, 140, 140.1)], []),
        ([(0, 100, 100.1), (35, 105, 135), (40, 140, 140.1)], []),
        ([(0, 100, 130), (24, 131, 131.1)], []),
        # A clock that is brought into line slowly.
        ([(n * 5.1, 100 + n * 5, 100.1 + n * 5) for n in range(200)], []),
    ],
)
def test_a_jump_is_a_step_that_no_delay_explains(
    beats: list[tuple[float, float, float]], jumps: list[int]
) -> None:
    recorded = Recorded()
    clock = ServiceClock(cluster=recorded)  # type: ignore[arg-type]
    for now, before_s, after_s in beats:
        clock.observe(at(now), before_s, after_s)
    assert recorded.jumps == jumps


def test_a_claim_notices_a_jump_forward_and_nothing_else() -> None:
    recorded = Recorded()
    clock = ServiceClock(cluster=recorded)  # type: ignore[arg-type]
    clock.check(at(9_999), 1)
    clock.observe(at(0), 100, 100.1)
    clock.check(at(1), 101)
    clock.check(at(2), 120)  # it waited for a lock
    clock.check(at(-500), 102)
    assert recorded.jumps == []
    clock.check(at(500), 103)
    clock.check(at(501), 104)
    assert recorded.jumps == [497]


def test_nobody_goes_on_before_a_jump_is_recorded() -> None:
    asked, go_on = threading.Event(), threading.Event()

    class Slow(Recorded):
        def record_jump(self, by_s: float) -> bool:
            asked.set()
            assert go_on.wait(10)
            return super().record_jump(by_s)

    recorded = Slow()
    clock = ServiceClock(cluster=recorded)  # type: ignore[arg-type]
    clock.observe(at(0), 100, 100.1)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(clock.observe, at(505), 105, 105.1)
        assert asked.wait(10)
        second = pool.submit(clock.check, at(506), 106)
        with pytest.raises(TimeoutError):
            second.result(0.05)
        go_on.set()
        first.result(10)
        second.result(10)
    assert recorded.jumps == [500]


def test_a_jump_that_could_not_be_recorded_is_noticed_again() -> None:
    class Away(Recorded):
        def record_jump(self, by_s: float) -> bool:
            super().record_jump(by_s)
            if len(self.jumps) == 1:
                raise DatabaseAwayError("away")
            return True

    recorded = Away()
    clock = ServiceClock(cluster=recorded)  # type: ignore[arg-type]
    clock.observe(at(0), 100, 100.1)
    with pytest.raises(DatabaseAwayError):
        clock.check(at(506), 106)
    clock.check(at(507), 107)
    clock.check(at(508), 108)
    assert recorded.jumps == [500, 500]


def test_of_an_age_only_the_time_since_the_jump_is_sure() -> None:
    assert sure_age_s(50, None) == 50
    assert sure_age_s(50, 60) == 50
    assert sure_age_s(4_000, 60) == 60
    assert sure_age_s(-0.03, 60) == -0.03, "of a claim that waited for the lock of this very call"
    assert sure_age_s(-4_000, 60) == 60
