"""How worker processes share the looks for due work."""

from itertools import pairwise

import pytest

from worker.queue.fleet import MOST_APART, Fleet

NOW_S = 1_700_000_000.25


def looks(size: int, seconds: float, *, dead: frozenset[int] = frozenset()) -> list[float]:
    """Return the times at which any process of a fleet looks, each from a start of its own."""
    found = []
    for place in set(range(size)) - dead:
        fleet, at = Fleet(size=size, place=place), place * 0.77 % 20
        while at < seconds:
            found.append(at)
            at += fleet.look_in_s(1.0, NOW_S + at)
    return sorted(found)


def longest_gap(times: list[float]) -> float:
    return max(after - before for before, after in pairwise(times))


@pytest.mark.parametrize("size", [1, 2, 3, 14, 15, 16, 60, 500])
def test_somebody_looks_every_second_whatever_their_number(size: int) -> None:
    times = [at for at in looks(size, 200) if at > 100]
    assert longest_gap(times) <= 1.0 + 1e-6
    assert len(times) / 100 <= max(1.01, size / MOST_APART * 1.01), "and not much more often"


def test_a_dead_process_leaves_a_gap_of_two_intervals() -> None:
    assert longest_gap(looks(10, 200, dead=frozenset({4}))[60:]) == pytest.approx(2.0)


def test_if_all_others_die_the_last_one_looks_before_it_knows() -> None:
    times = looks(60, 300, dead=frozenset(range(59)))
    assert longest_gap(times[2:]) == pytest.approx(MOST_APART)


@pytest.mark.parametrize(("size", "wait_s"), [(1, 2.0), (3, 6.0), (60, 30.0)])
def test_waits_on_a_server_grow_with_the_number(size: int, wait_s: float) -> None:
    assert Fleet(size=size).spread_s(2.0) == wait_s
