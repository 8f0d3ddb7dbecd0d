"""`make bench`: measure, print the table, write bench/results/<date>-<commit>.json.

    python -m bench.run                    the short form, below five minutes
    python -m bench.run --full             all of it, 5 rounds, 1,000,000 messages, the soak
    python -m bench.run --only fast,slow   some parts
    python -m bench.run --only fast --peers    beside other queues for Python
    python -m bench.run --full --only soak --into F    add to an earlier run of the same program
Exit code 1 = a bar is not met.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bench import (
    accept,
    fair,
    fast,
    flood,
    foreign,
    gateway,
    grown,
    idle,
    machine,
    mails,
    slow,
    soak,
    sql,
    starts,
    texting,
)
from bench.children import ROOT
from bench.report import Report
from bench.stage import Stage, running_stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """The size of a run."""

    rounds: int
    messages: int
    old_each: int
    """Old messages of each of the 100,000 users of the grown tables."""
    soak_minutes: float
    peers: bool
    """Whether part `fast` has columns of other queues."""


SHORT = Effort(rounds=3, messages=300, old_each=10, soak_minutes=1.0, peers=False)
FULL = Effort(rounds=5, messages=2000, old_each=10, soak_minutes=30.0, peers=True)
Part = Callable[[Stage, Report, Effort], None]
PARTS: dict[str, Part] = {
    "fast": lambda s, r, e: fast.measure(
        s, r, rounds=e.rounds, messages=e.messages, beside_peers=e.peers
    ),
    "texting": lambda s, r, e: texting.measure(s, r, rounds=e.rounds, messages=e.messages),
    # Several times the number in flight: otherwise the start is a large part of a round.
    "slow": lambda s, r, e: slow.measure(
        s,
        r,
        rounds=2 if e is not FULL else e.rounds,
        messages=600 if e is not FULL else 5000,
        two_floors=e is FULL,
    ),
    "many": lambda s, r, e: slow.many(
        s, r, rounds=1 if e is not FULL else e.rounds, messages=2000 if e is not FULL else 5000
    ),
    "memory": lambda s, r, e: slow.memory(s, r, rounds=e.rounds),
    "grown": lambda s, r, e: grown.measure(
        s, r, rounds=e.rounds, messages=e.messages, each=e.old_each
    ),
    "sweep": lambda s, r, _: grown.sweep(s, r),
    "fair": lambda s, r, e: fair.measure(
        s,
        r,
        rounds=1 if e is not FULL else 3,
        messages=3 if e is not FULL else 20,
        processes=(1,) if e is not FULL else (1, 2),
    ),
    "flood": lambda s, r, e: flood.measure(
        s, r, rounds=1 if e is not FULL else 3, messages=3 if e is SHORT else 20
    ),
    "starts": lambda s, r, e: starts.measure(s, r, rounds=e.rounds),
    "cut": lambda s, r, e: starts.after_a_silent_cut(s, r, rounds=1 if e is not FULL else 3),
    "gateway": lambda s, r, e: gateway.measure(
        s, r, rounds=e.rounds, webhooks=2000 if e is not FULL else 20_000
    ),
    "mails": lambda s, r, e: mails.measure(s, r, rounds=e.rounds),
    "sql": lambda s, r, _: sql.measure(s, r),
    "foreign": lambda s, r, e: foreign.measure(s, r, rounds=e.rounds, messages=e.messages),
}
FULL_PARTS: dict[str, Part] = {
    "accept": lambda s, r, _: accept.measure(s, r),
    "new-users": lambda s, r, e: fast.new_users(s, r, rounds=e.rounds, messages=e.messages),
    "sizes": lambda s, r, e: slow.sizes(s, r, rounds=e.rounds, messages=e.messages),
    "idle": lambda s, r, _: idle.measure(s, r),
    "long": lambda s, r, _: grown.long_conversation(s, r),
    "backlog": lambda s, r, _: grown.backlog(s, r),
    "soak": lambda s, r, e: soak.measure(s, r, minutes=e.soak_minutes, per_second=None),
}


def main() -> int:
    wanted = _arguments()
    effort = FULL if wanted.full else replace(SHORT, peers=wanted.peers)
    names = (
        wanted.only.split(",") if wanted.only else [*PARTS, *(FULL_PARTS if wanted.full else ())]
    )
    parts, console = PARTS | FULL_PARTS, Console(width=None if sys.stdout.isatty() else 110)
    if unknown := [name for name in names if name not in parts]:
        raise SystemExit(f"unknown parts {unknown}; there are {', '.join(parts)}")
    report = Report(about=_about(wanted)) if wanted.into is None else _added_to(wanted.into, names)
    began, before_s = time.monotonic(), int(str(report.about.get("seconds", 0)))
    with running_stage(seed=wanted.seed) as stage:
        for name in names:
            part_began = time.monotonic()
            _attempt(name, parts[name], stage, report, effort)
            console.print(f"[dim]{name}: {time.monotonic() - part_began:.0f} s[/]")
    report.about["seconds"] = before_s + round(time.monotonic() - began)
    report.show(console)
    name = f"{datetime.now(UTC):%Y-%m-%d}-{_commit()}.json"
    path = report.write(wanted.into or Path(wanted.results) / name)
    console.print(f"{path}, in {report.about['seconds']} s")
    return 1 if report.failed or report.broken else 0


def _added_to(path: Path, names: list[str]) -> Report:
    """Read an earlier run. Raises `SystemExit` if it measured another program."""
    report = Report.read(path)
    commit = str(report.about["commit"])
    same = ["git", "diff", "--quiet", commit, "--", "worker", "client", "migrations", "uv.lock"]
    if subprocess.run(same, cwd=ROOT, check=False).returncode:
        raise SystemExit(f"--into: the program has changed since {commit}")
    report.about |= {f"{name} by": _commit() for name in names}
    return report


def _attempt(name: str, part: Part, stage: Stage, report: Report, effort: Effort) -> None:
    """Run one part; if it breaks, the other parts still run, and the run has failed."""
    report.broken = [one for one in report.broken if not one.startswith(f"{name}: ")]
    try:
        part(stage, report, effort)
    except (RuntimeError, OSError, LookupError, ValueError) as error:
        report.broken.append(f"{name}: {type(error).__name__}: {str(error)[-2000:]}")
        print(report.broken[-1])
        stage.calm_down()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run")
    parser.add_argument("--full", action="store_true", help="everything, about an hour")
    parser.add_argument("--only", help=f"parts: {','.join(PARTS | FULL_PARTS)}")
    parser.add_argument("--peers", action="store_true", help="procrastinate, dramatiq and taskiq")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--into", type=Path, help="the file of an earlier run of the same program")
    parser.add_argument("--results", default=ROOT / "bench" / "results")
    return parser.parse_args()


def _about(wanted: argparse.Namespace) -> dict[str, object]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "form": "full" if wanted.full else "short",
        "seed": wanted.seed,
        **machine.describe(),
    }


def _commit() -> str:
    """Return the commit, with `-changed` if files differ from it."""
    command = ["git", "describe", "--always", "--abbrev=7", "--dirty=-changed", "--exclude=*"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
