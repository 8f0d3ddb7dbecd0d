"""Telnyx's dialect, played on a throw-away conversation, as lines of the report."""

from collections.abc import Iterator
from typing import Final

from worker.bootstrap.reports import build_telnyx
from worker.cli.doctor.check_telnyx import sees_images
from worker.cli.doctor.finding import Level, Line
from worker.cli.doctor.setup import Setup
from worker.domain.reports.dialect import DialectFinding, Standing
from worker.domain.routing import Routing
from worker.handlers.operators.probe import play

_GROUP: Final = "dialect"
_TOOL_POINTS: Final = ("tool round", "tool calls", "tool outputs")
_LEVELS: Final = {
    Standing.EXPECTED: Level.OK,
    Standing.TOLERATED: Level.WARNING,
    Standing.UNSAFE: Level.FAULT,
    Standing.UNCHECKED: Level.UNCHECKED,
}


def played(setup: Setup, *, patience_s: float = 15.0) -> Iterator[Line]:
    """Play it with the default agent's model; takes as long as some of its answers."""
    settings, routing = setup.settings, setup.routing
    model = routing.agents[routing.default_agent].model
    with build_telnyx(settings) as client:
        report = play(client, model, sees_images=sees_images(setup, model), patience_s=patience_s)
    unused = _unused(routing)
    for finding in report.findings:
        yield _line(finding, is_used=finding.name not in unused)


def not_played(why: str) -> Line:
    """Give the one line that stands for all points."""
    return Line(group=_GROUP, name="all points", level=Level.UNCHECKED, found=why)


def _unused(routing: Routing) -> frozenset[str]:
    """Name the points that no agent needs today: what is wrong there is no fault."""
    agents = routing.agents.values()
    tools = () if any(one.tools for one in agents) else _TOOL_POINTS
    return frozenset((*tools, *(() if any(one.stream for one in agents) else ("streaming",))))


def _line(finding: DialectFinding, *, is_used: bool) -> Line:
    found, level = finding.seen, _LEVELS[finding.standing]
    if level in {Level.WARNING, Level.FAULT}:
        found = f"{finding.seen}; expected: {finding.expected}"
    if level is Level.FAULT and not is_used:
        level, found = Level.WARNING, f"{found}; no agent needs it"
    return Line(group=_GROUP, name=finding.name, level=level, found=found, fix=finding.meaning)
