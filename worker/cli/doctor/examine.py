"""Runs checks one after the other, each within its time; no fault of one stops the others."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from threading import Thread
from typing import Final

from worker.cli.doctor.setup import Setup
from worker.domain.errors import WorkerError
from worker.domain.reports.finding import Finding, Level, fault, unchecked

CHECK_S: Final = 5.0
UNREACHABLE: Final = "see whether it can be reached from here: name, port, firewall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check. `name` is unique."""

    group: str
    name: str
    look: Callable[[Setup], Finding]
    needs: tuple[str, ...] = ()
    """Names of earlier checks without which this one makes no sense."""
    timeout_s: float = CHECK_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The finding of a check: one line of the report, with its fields in the order of the JSON."""

    group: str
    name: str
    level: Level
    found: str
    fix: str


def result(finding: Finding, *, group: str, name: str) -> Result:
    """Return a finding as a line of the report."""
    return Result(group=group, name=name, **asdict(finding))


def examine(checks: Iterable[Check], setup: Setup) -> Iterator[Result]:
    """Run the checks in order; one that needs a failed one is not run."""
    failed: set[str] = set()
    for check in checks:
        missing = [name for name in check.needs if name in failed]
        finding = unchecked(f"{missing[0]} comes first") if missing else _within(check, setup)
        if finding.level in {Level.FAULT, Level.UNCHECKED}:
            failed.add(check.name)
        yield result(finding, group=check.group, name=check.name)


def _within(check: Check, setup: Setup) -> Finding:
    # On a thread of its own: a name lookup takes no timeout, and must not hold up the others.
    found: list[Finding] = []
    thread = Thread(target=lambda: found.append(_guarded(check, setup)), daemon=True)
    thread.start()
    thread.join(check.timeout_s)
    return found[0] if found else fault(f"no answer within {check.timeout_s:g} s", UNREACHABLE)


def _guarded(check: Check, setup: Setup) -> Finding:
    try:
        return check.look(setup)
    except WorkerError as error:
        return fault(str(error), UNREACHABLE)
    except Exception as error:  # noqa: BLE001 - one check that breaks must not hide the others
        return fault(f"the check itself failed: {type(error).__name__}", "please report this")
