"""The state machine: thousands of drawn schedules of steps, faults and crashes, one oracle.

    make test                        200 schedules, the same ones each time
    make test-all                    1,800 more
    SCHEDULES=20000 SEED=7 .venv/bin/python -m pytest tests/faults/state_machine -n 2
    REPLAY=<file> .venv/bin/python -m pytest tests/faults/state_machine -k replayed

A failure is shrunk, printed with its seed, and kept in a file for REPLAY.

Schedules are drawn by a seeded generator of our own: hypothesis took a third of the time of a
schedule to draw it, and spent half of its draws on repeating parts of earlier ones.
"""

import json
import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.state_machine import commands
from tests.faults.state_machine.commands import HANDS, Command, draw
from tests.faults.state_machine.shrinking import shrunk
from tests.faults.state_machine.stage import Stage
from tests.faults.state_machine.taps import Trap
from tests.faults.state_machine.telling import SOMETIMES, tell

SHARDS = 4
QUICK = 200
"""Schedules of `make test`: enough to notice that a protection is gone."""
SCHEDULES = int(os.environ.get("SCHEDULES", "2000"))
SEED = int(os.environ.get("SEED", "1"))
REPLAY = os.environ.get("REPLAY")
HERE = "tests/faults/state_machine/test_schedules.py"
SHRINKING_S = 120.0


def run(stage: Stage, schedule: list[Command]) -> None:
    """Play a schedule to its end, and let the oracle judge."""
    stage.reset(hands=HANDS)
    for command in schedule:
        stage.clock.advance(0.001)
        command.do(stage)
    zombies = [hand for hand in stage.hands if hand.held]
    for hand in zombies[::2]:
        stage.go(hand)
    stage.heal()
    for hand in zombies[1::2]:  # these wake when everything is long over
        stage.go(hand)
    stage.clock.advance(200)  # what Telnyx still works on arrives
    stage.write_afterword()
    stage.heal()
    tell(stage)
    violations = stage.violations()
    assert not violations, "\n".join(map(str, violations))


def fails(stage: Stage, schedule: list[Command]) -> bool:
    try:
        run(stage, schedule)
    except Exception:  # noqa: BLE001 # whatever it is, it is what is being looked for
        return True
    return False


@pytest.mark.timeout(60 + QUICK + SHRINKING_S)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_whatever_happens_the_invariants_hold(stage: Stage, shard: int) -> None:
    play(stage, shard, range(QUICK // SHARDS))


@pytest.mark.slow
@pytest.mark.timeout(60 + SCHEDULES + SHRINKING_S)
@pytest.mark.parametrize("half", range(2))
@pytest.mark.parametrize("shard", range(SHARDS))
def test_the_invariants_hold_in_many_more_schedules(
    stage: Stage, shard: int, half: int, shared_folder: Path
) -> None:
    play(stage, shard, range(QUICK // SHARDS, -(-SCHEDULES // SHARDS))[half::2])
    (shared_folder / f"schedules-{shard}-{half}.json").write_text(json.dumps(stage.counts))
    halves = [json.loads(file.read_text()) for file in shared_folder.glob(f"schedules-{shard}-*")]
    counts: Counter[str] = sum(map(Counter, halves), Counter())
    never = [name for name in SOMETIMES if not counts[name]]
    # The half that ends last, perhaps in another process, counts both.
    assert SCHEDULES < 2000 or len(halves) < 2 or not never, f"never: {never}: {_told(counts)}"


def play(stage: Stage, shard: int, numbers: range) -> None:
    """Draw and play the schedules of these numbers; shrink the first that fails."""
    for number in numbers:
        seed = f"{SEED}/{shard}/{number}"
        schedule = draw(seed)
        if fails(stage, schedule):
            short = shrunk(schedule, lambda each: fails(stage, each), seconds=SHRINKING_S)
            path = Path(tempfile.gettempdir()) / f"schedule-{seed.replace('/', '-')}.txt"
            path.write_text(",\n".join(map(repr, short)))
            print(f"\nschedule {seed}, shrunk from {len(schedule)} steps:\n{path.read_text()}\n")
            print(f"again: REPLAY={path} .venv/bin/python -m pytest {HERE} -k replayed")
            print(f"or: SEED={SEED} SCHEDULES={SCHEDULES} .venv/bin/python -m pytest {HERE}")
            run(stage, short)
            run(stage, schedule)
    print(f"counters of shard {shard}: {_told(stage.counts)}")


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


if REPLAY is not None:

    def test_a_schedule_is_replayed(stage: Stage) -> None:
        names = {name: getattr(commands, name) for name in dir(commands)} | {"Trap": Trap}
        steps = Path(REPLAY or "").read_text()
        run(stage, eval(f"[{steps}]", names))  # noqa: S307 # a file of our own
