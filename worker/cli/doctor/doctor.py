"""`worker doctor`: looks at everything an installation rests on, and says how to mend it.

Promises: it works with settings missing or broken, stops at no fault, ends in bounded time, changes
nothing but a throw-away conversation at Telnyx, and prints no address, key or text.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

from worker.cli.console import escape_for_terminal, print_json, print_line
from worker.cli.doctor import (
    check_broker as broker,
)
from worker.cli.doctor import (
    check_celery as celery_app,
)
from worker.cli.doctor import (
    check_dialect as dialect,
)
from worker.cli.doctor import (
    check_flower as flower,
)
from worker.cli.doctor import (
    check_postgres as postgres,
)
from worker.cli.doctor import (
    check_settings as settings,
)
from worker.cli.doctor import (
    check_telnyx as telnyx,
)
from worker.cli.doctor.finding import Check, Level, Line, examine
from worker.cli.doctor.setup import Setup
from worker.cli.errors import CommandError
from worker.domain.errors import WorkerError

_COLOURS: Final = {
    Level.OK: "green",
    Level.WARNING: "yellow",
    Level.FAULT: "red",
    Level.UNCHECKED: "dim",
}


def checks() -> tuple[Check, ...]:
    """Give all checks in order, for one run."""
    return (
        *settings.CHECKS,
        *postgres.CHECKS,
        *broker.CHECKS,
        *celery_app.checks(),
        *flower.CHECKS,
        *telnyx.CHECKS,
    )


def run(*, as_json: bool, telnyx_writes: bool) -> None:
    """Check everything. Raises `CommandError` where something does not work."""
    lines = []
    for line in diagnose(Setup.read(), telnyx_writes=telnyx_writes):
        lines.append(line)
        if not as_json:
            print_line(_shown(line))
    counts = {level: sum(line.level is level for line in lines) for level in Level}
    if as_json:
        print_json({"healthy": not counts[Level.FAULT], "checks": [asdict(line) for line in lines]})
    else:
        print_line(", ".join(f"{level}: {count}" for level, count in counts.items()))
    if counts[Level.FAULT]:
        raise CommandError(f"{counts[Level.FAULT]} of {len(lines)} checks found a fault")


def diagnose(setup: Setup, *, telnyx_writes: bool) -> Iterator[Line]:
    """Give every line as soon as it is known."""
    found: dict[str, Level] = {}
    for line in examine(checks(), setup):
        found[line.name] = line.level
        yield line
    if not telnyx_writes:
        yield dialect.not_played("--no-telnyx-writes")
    elif found[telnyx.MODELS] is not Level.OK:
        yield dialect.not_played(f"{telnyx.MODELS} comes first")
    else:
        try:
            yield from dialect.played(setup)
        except WorkerError as error:
            yield dialect.not_played(str(error))


def _shown(line: Line) -> str:
    level = line.level.upper() if line.level is Level.FAULT else str(line.level)
    what = f"{line.group:<9} {escape_for_terminal(line.name)}: {escape_for_terminal(line.found)}"
    fix = f" [bold]->[/] {escape_for_terminal(line.fix)}" if line.fix else ""
    return f"[{_COLOURS[line.level]}]{level:<11}[/] {what}{fix}"
