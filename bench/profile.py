"""Profiles the worker at latency 0: `python -m bench.profile` prints packages and lines.

With py-spy on PATH (`uv tool install py-spy`, or `pipx install py-spy`) it samples the
thread that holds the interpreter lock. Otherwise it uses the coarser sampler of bench/profiled.py.
"""

import argparse
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from bench.children import ROOT
from bench.rounds import run_round, warm_up
from bench.stage import Stage, Subject, running_stage
from bench.variants import OURS
from worker.net.child_process import ChildProcess

ANSWERS = 50
Stacks: TypeAlias = list[tuple[list[str], int]]
_SHORT = re.compile(
    r"\(\S*(?:site-packages/|lib/python[\d.]+/(?!site-packages))|\(\S*/(?=(?:worker|bench)/)"
)
"""The part of a path before the name of a package."""


def parse(lines: Iterable[str]) -> list[tuple[list[str], int]]:
    """Read folded stacks: places from outermost to innermost, and their weight."""
    found = []
    for line in lines:
        stack, _, weight = line.rpartition(" ")
        found.append((_SHORT.sub("(", stack).split(";"), int(weight)))
    return found


def own_time(stacks: Stacks) -> list[tuple[str, float]]:
    """Return the lines by their own time, and their shares."""
    return _shares((stack[-1:], weight) for stack, weight in stacks)


def by_package(stacks: Stacks) -> list[tuple[str, float]]:
    """Return the packages by their own time."""
    return _shares(([_package(stack[-1])], weight) for stack, weight in stacks)


def below_ours(stacks: Stacks) -> list[tuple[str, float]]:
    """Return this project's functions by their time, including the functions that they call."""
    return _shares(
        ({place.rpartition(":")[0] + ")" for place in stack if _package(place) == "worker"}, weight)
        for stack, weight in stacks
    )


def _shares(weighed: Iterable[tuple[Iterable[str], int]]) -> list[tuple[str, float]]:
    found: Counter[str] = Counter()
    total = 0
    for names, weight in weighed:
        total += weight
        for name in names:
            found[name] += weight
    return [(name, weight / (total or 1)) for name, weight in found.most_common()]


def _package(place: str) -> str:
    inside = place.rpartition("(")[2].rpartition(":")[0]
    return inside.partition("/")[0] if "/" in inside else inside or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.profile")
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--top", type=int, default=25)
    parser.add_argument(
        "--keep", type=Path, help="write the folded stacks here (for a flame graph)"
    )
    wanted = parser.parse_args()
    with running_stage() as stage:
        folded = stage.folder / "stacks.txt"
        spy = shutil.which("py-spy")
        if spy is None:
            print("py-spy is not on PATH: our own sampler, which is coarser", file=sys.stderr)
        (_with_py_spy if spy else _with_our_sampler)(stage, folded, wanted.messages)
        lines = folded.read_text().splitlines()
    if wanted.keep:
        wanted.keep.write_text("\n".join(lines))
    stacks = parse(lines)
    _print("own time, by package", by_package(stacks)[:15])
    _print("own time, by line", own_time(stacks)[: wanted.top])
    _print("time in and below, our functions", below_ours(stacks)[: wanted.top])


def _print(title: str, rows: list[tuple[str, float]]) -> None:
    print(f"\n{title}")
    for name, share in rows:
        print(f"{share:7.1%}  {name}")


def _with_py_spy(stage: Stage, folded: Path, messages: int) -> None:
    with stage.subject(OURS, answers=ANSWERS) as subject:
        warm_up(stage, subject)
        spy = ChildProcess(
            [
                *(shutil.which("py-spy") or "py-spy", "record", "--gil", "--rate", "500"),
                *("--format", "raw", "--output", folded, "--pid", str(subject.processes[0].pid)),
                *("--duration", "3600", "--nonblocking", "--full-filenames"),
            ],
            log=stage.folder / "py-spy.log",
            stop_signals=(signal.SIGINT,),
        )
        _tell(run_round(stage, subject, messages=messages).cpu_ms)
        spy.stop()
    if not folded.exists():
        raise SystemExit((stage.folder / "py-spy.log").read_text()[-2000:])


def _with_our_sampler(stage: Stage, folded: Path, messages: int) -> None:
    env = {"PROFILE_FILE": str(folded), "PYTHONPATH": str(ROOT)}
    with stage.subject(OURS, answers=ANSWERS, app="bench.profiled", env=env) as subject:
        warm_up(stage, subject)
        _tell(run_round(stage, subject, messages=messages).cpu_ms)
        _end(subject)


def _end(subject: Subject) -> None:
    for process in subject.processes:
        process.stop()


def _tell(cpu_ms: float) -> None:
    print(f"worker CPU per message while watched: {cpu_ms:.2f} ms\n")


if __name__ == "__main__":
    main()
