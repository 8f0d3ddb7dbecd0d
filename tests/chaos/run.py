"""Seeded chaos: real workers, Redis and Postgres, faults on everything, then the reckoning.

    .venv/bin/python -m tests.chaos.run --seed 1 --minutes 5

Exit code 0: every promise was kept, and everything that must be seen was seen.
"""

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from tests.chaos.campaign import Options, Report, run_campaign
from tests.chaos.pair import forget

MESSAGES_PER_MINUTE = 450
_SHOWN = 20


def main() -> int:
    """Run one campaign; gives the exit code."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{arguments.seed}-"))
    folder.chmod(0o755)  # root's Postgres is another user
    options = Options(
        seed=arguments.seed,
        minutes=arguments.minutes,
        workers=arguments.workers,
        messages=arguments.messages or round(MESSAGES_PER_MINUTE * arguments.minutes),
        folder=folder,
    )
    keep = True
    try:
        report = run_campaign(options)
        keep = arguments.keep or not report.is_green
        _show(report, folder if keep else None)
        text = json.dumps(asdict(report), indent=2, default=str)
        if keep:
            (folder / "report.json").write_text(text)
        if arguments.json:
            arguments.json.write_text(text)
    except KeyboardInterrupt:
        keep = arguments.keep
        print("\ninterrupted")
        return 130
    else:
        return 0 if report.is_green else 1
    finally:
        if not keep:
            forget(folder)


def _show(report: Report, folder: Path | None) -> None:
    print("\n")
    for name, number in report.counters.items():
        print(f"{number:>8}  {name}{'  <-- must not be 0' if name in report.zero else ''}")
    for table, states in report.states.items():
        print(f"{table:>10}: " + ", ".join(f"{n} {state}" for state, n in states.items()))
    print(f"  given up: {report.given_up}")
    print(f"   letters: {report.letters}\n  log words: {report.log_words}")
    unwanted = [each for each in report.exits if not (each["wanted"] and each["code"] == 0)]
    print(f"     exits: {len(report.exits)}, of these unasked or not 0: {unwanted}")
    print(
        f"{report.planned} messages in {report.publishes} publishes, {len(report.faults)} faults,"
        f" final {report.healed_in_s} s after healing, {report.took_s} s in all"
    )
    print(
        f"{report.waits} messages that nothing befell waited {report.longest_wait_s} s at most,"
        " without the time in which all had to wait"
    )
    for line in [*report.failed_faults, *report.violations[:_SHOWN]]:
        print(f"VIOLATED  {line}")
    if len(report.violations) > _SHOWN:
        print(f"          and {len(report.violations) - _SHOWN} more, see report.json")
    print("green" if report.is_green else f"RED with seed {report.options['seed']}")
    if folder is not None:
        print(f"logs, data and report.json: {folder}\nagain: {report.command}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.chaos.run", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=5.0, help="of faults; healing comes after")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--messages", type=int, help=f"default: {MESSAGES_PER_MINUTE} a minute")
    parser.add_argument("--json", type=Path, help="where the report is written")
    parser.add_argument("--keep", action="store_true", help="logs and data even when green")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
