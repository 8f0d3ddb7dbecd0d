"""Telnyx's dialect, played on a conversation of its own, as lines of the report."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from worker.bootstrap.telnyx import build_telnyx
from worker.cli.doctor.check_telnyx import sees_images
from worker.cli.doctor.examine import Setup
from worker.domain.reports.dialect import EXPECTED
from worker.domain.reports.finding import Finding, Level, unchecked
from worker.handlers.operators.probe import Probes

_GROUP: Final = "dialect"
_TOOL_POINTS: Final = ("tool round", "tool calls", "tool outputs")


def played(setup: Setup) -> Iterator[Finding]:
    """Play it with the default agent's model; takes as long as some of its answers."""
    settings, routing = setup.settings, setup.routing
    model = routing.agents[routing.default_agent].model
    with build_telnyx(settings) as client:
        sees = sees_images(setup, model)
        probes = Probes(client=client, model=model, sees_images=sees)
        report = probes.play()
    # The points that no agent needs today: a difference there is no fault.
    agents = routing.agents.values()
    unused = set() if any(one.tools for one in agents) else set(_TOOL_POINTS)
    unused |= set() if any(one.stream for one in agents) else {"streaming"}
    for name, finding in report.items():
        shown = _shown(name, finding, is_used=name not in unused)
        yield replace(shown, group=_GROUP, name=name)


def not_played(why: str) -> Finding:
    """Return the one line that replaces those of all points."""
    return replace(unchecked(why), group=_GROUP, name="all points")


def _shown(name: str, finding: Finding, *, is_used: bool) -> Finding:
    level, found = finding.level, finding.found
    if level in {Level.WARNING, Level.FAULT}:
        found = f"{found}; expected: {EXPECTED[name]}"
    if level is Level.FAULT and not is_used:
        level, found = Level.WARNING, f"{found}; no agent needs it"
    return replace(finding, level=level, found=found)
