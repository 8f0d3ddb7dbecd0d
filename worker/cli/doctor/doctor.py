"""`worker doctor`: checks everything an installation depends on, and names the fix of each fault.

It works with settings missing or broken, stops at no fault, ends in bounded time, changes nothing
but a conversation of its own at Telnyx, and prints no address, key or text.
"""

from collections.abc import Iterator
from typing import Final

from worker.cli.console import escape_for_terminal
from worker.cli.doctor import (
    check_broker,
    check_celery,
    check_dialect,
    check_flower,
    check_postgres,
    check_settings,
    check_telnyx,
)
from worker.cli.doctor.examine import Check, Result, Setup, examine
from worker.domain.errors import WorkerError
from worker.domain.reports.finding import Level

_COLOURS: Final = {
    Level.OK: "green",
    Level.WARNING: "yellow",
    Level.FAULT: "red",
    Level.UNCHECKED: "dim",
}


def checks() -> tuple[Check, ...]:
    """Return all checks in order, for one run."""
    return (
        *check_settings.CHECKS,
        *check_postgres.CHECKS,
        *check_broker.CHECKS,
        *check_celery.checks(),
        *check_flower.CHECKS,
        *check_telnyx.CHECKS,
    )


def diagnose(setup: Setup, *, telnyx_writes: bool) -> Iterator[Result]:
    """Yield every line as soon as it is known."""
    found: dict[str, Level] = {}
    for line in examine(checks(), setup):
        found[line.name] = line.level
        yield line
    if not telnyx_writes:
        yield check_dialect.not_played("--no-telnyx-writes")
    elif found[check_telnyx.MODELS] is not Level.OK:
        yield check_dialect.not_played(f"{check_telnyx.MODELS} comes first")
    else:
        try:
            yield from check_dialect.played(setup)
        except WorkerError as error:
            yield check_dialect.not_played(str(error))


def line_of(line: Result) -> str:
    """Return a line of the report, with markup."""
    level = line.level.upper() if line.level is Level.FAULT else str(line.level)
    what = f"{line.group:<9} {escape_for_terminal(line.name)}: {escape_for_terminal(line.found)}"
    fix = f" [bold]->[/] {escape_for_terminal(line.fix)}" if line.fix else ""
    return f"[{_COLOURS[line.level]}]{level:<11}[/] {what}{fix}"
