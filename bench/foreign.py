"""Measures a worker beside a foreign program that keeps one core busy: at rest, and beside it."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.fast import cpu
from bench.report import Report
from bench.rounds import Round, middle, ratios, run_round, warm_up
from bench.stage import Stage
from bench.variants import FLOOR, OURS
from worker.net.child_process import ChildProcess

ANSWERS = 200


def measure(stage: Stage, report: Report, *, rounds: int, messages: int) -> None:
    """Run quiet and busy rounds in turn; the same for the floor, whose ratio is in the note."""
    quiet: dict[str, list[Round]] = {"ours": [], "floor": []}
    busy: dict[str, list[Round]] = {"ours": [], "floor": []}
    with ExitStack() as stack:
        subjects = [
            stack.enter_context(stage.subject(one, answers=ANSWERS)) for one in (OURS, FLOOR)
        ]
        for subject in subjects:
            warm_up(stage, subject)
        for _ in range(rounds):
            for subject in subjects:
                quiet[subject.label].append(run_round(stage, subject, messages=messages))
                with busy_program():
                    busy[subject.label].append(run_round(stage, subject, messages=messages))
    report.add(
        "foreign",
        ratios(busy["ours"], quiet["ours"], cpu),
        "; ".join(
            f"{name} {middle(quiet[name], cpu):.2f} ms, beside it {middle(busy[name], cpu):.2f} ms"
            f" at {middle(busy[name], lambda one: one.per_second):.0f}/s"
            for name in quiet
        ),
    )


@contextmanager
def busy_program() -> Iterator[None]:
    """Run a program that computes all the time, on whichever core."""
    program = ChildProcess([sys.executable, "-c", "while True: pass"], log=None)
    try:
        yield
    finally:
        program.kill()
