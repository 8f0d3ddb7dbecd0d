"""Making a failing schedule short: leave steps out, make the rest simpler, as long as it fails."""

import time
from collections.abc import Callable, Sequence

from tests.faults.state_machine.commands import Command, simpler

Fails = Callable[[list[Command]], bool]


def shrunk(schedule: Sequence[Command], fails: Fails, *, seconds: float) -> list[Command]:
    """Give a part of a failing schedule that still fails, the shortest found in that time."""
    deadline = time.monotonic() + seconds

    def still(candidate: list[Command]) -> bool:
        return time.monotonic() < deadline and fails(candidate)

    short = _without_runs(list(schedule), still)
    for place in range(len(short)):
        for step in simpler(short[place]):
            candidate = [*short[:place], step, *short[place + 1 :]]
            if step != short[place] and still(candidate):
                short = candidate
    return _without_runs(short, still)


def _without_runs(schedule: list[Command], still: Fails) -> list[Command]:
    size = max(len(schedule) // 2, 1)
    while size:
        place = 0
        while place < len(schedule):
            candidate = schedule[:place] + schedule[place + size :]
            if still(candidate):
                schedule = candidate
            else:
                place += size
        size //= 2
    return schedule
