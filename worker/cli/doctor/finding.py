"""Checks and what they find; one after the other, each within its time, never stopping at a fault.

Nothing found here names an address, a password, a key or what somebody wrote.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from threading import Thread
from typing import Final

from worker.cli.doctor.setup import Setup
from worker.domain.errors import WorkerError

CHECK_S: Final = 5.0
UNREACHABLE: Final = "see whether it can be reached from here: name, port, firewall"


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    UNCHECKED = "not checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check came to; `fix` is one line, empty where nothing is to be done."""

    level: Level
    found: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing to look at. `name` is unique."""

    group: str
    name: str
    look: Callable[[Setup], Finding]
    needs: tuple[str, ...] = ()
    """Names of earlier checks without which this one makes no sense."""
    timeout_s: float = CHECK_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the report."""

    group: str
    name: str
    level: Level
    found: str
    fix: str = ""


def ok(found: str) -> Finding:
    """Say that all is well."""
    return Finding(level=Level.OK, found=found)


def warning(found: str, fix: str) -> Finding:
    """Say what works, but should be known."""
    return Finding(level=Level.WARNING, found=found, fix=fix)


def fault(found: str, fix: str) -> Finding:
    """Say what does not work."""
    return Finding(level=Level.FAULT, found=found, fix=fix)


def unchecked(why: str) -> Finding:
    """Say why nobody knows."""
    return Finding(level=Level.UNCHECKED, found=why)


def examine(checks: Iterable[Check], setup: Setup) -> Iterator[Line]:
    """Run the checks in order; one that needs a failed one is not run."""
    failed: set[str] = set()
    for check in checks:
        missing = [name for name in check.needs if name in failed]
        finding = unchecked(f"{missing[0]} comes first") if missing else _within(check, setup)
        if finding.level in {Level.FAULT, Level.UNCHECKED}:
            failed.add(check.name)
        yield Line(
            group=check.group,
            name=check.name,
            level=finding.level,
            found=finding.found,
            fix=finding.fix,
        )


def _within(check: Check, setup: Setup) -> Finding:
    """Run it on a thread of its own: a name lookup, for one, cannot be given a timeout."""
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
