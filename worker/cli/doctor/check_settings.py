"""The settings, the agents file and its tools."""

import os
from typing import Final
from uuid import UUID

from worker.cli.doctor.examine import Setup
from worker.domain.errors import SettingsError
from worker.domain.reports.finding import Finding, fault, ok, warning
from worker.domain.routing import ROUTE
from worker.domain.ways_out import MailDelivery, TelnyxDelivery
from worker.tools.build import build_tools

REQUIRED: Final = ("database_url", "broker_url", "telnyx_api_key", "namespace")


def required(setup: Setup, *, field: str) -> Finding:
    """Check a setting without a default."""
    if line := setup.wrong.get(field):
        # "NAME is not set: do this", or "NAME: do this"
        found, _, fix = line.partition(": ")
        return fault(found.partition(" ")[2] or "wrong", fix)
    if getattr(setup.settings, field) == UUID(int=0):
        return fault("a placeholder", "make a UUID for this installation: uuidgen")
    name = f"{field.upper()}_FILE"
    return ok(f"from the file that {name} names" if os.environ.get(name) else "set")


def others(setup: Setup) -> Finding:
    """Check the settings with defaults."""
    wrong = [line for field, line in setup.wrong.items() if field not in REQUIRED]
    if not wrong:
        return ok("all can be read")
    return fault("wrong", "; ".join(wrong))


def agents_file(setup: Setup) -> Finding:
    """Check that agents, channels and the names of tools can be read."""
    if setup.agents_fault:
        return fault(setup.agents_fault, "fix it there; docs/reference/settings.md has all keys")
    if setup.settings.agents_file is None:
        return ok("none is set: one agent, without instructions")
    names = setup.routing.channels
    routes = sum(name.startswith(ROUTE) for name in names)
    found = f"agents: {len(setup.routing.agents)}, channels: {len(names) - routes}"
    return ok(f"{found}, routes: {routes}" if routes else found)


def people(setup: Setup) -> Finding:
    """Check that somebody is told of a hand-over, and that people are told of the AI."""
    routing = setup.routing
    silent = sorted(
        one.name for one in routing.agents.values() if one.hand_over and not one.hand_over.notify
    )
    if silent:
        found = f"{', '.join(silent)} hands over, and nobody is told"
        return warning(found, "set `notify` in its `hand_over` section")
    ours = (TelnyxDelivery, MailDelivery)
    unsaid = sorted(
        one.name
        for one in routing.channels.values()
        if isinstance(one.delivery, ours) and one.disclosure is None
    )
    if unsaid:
        found = f"{', '.join(unsaid)} does not say that an AI writes"
        return warning(found, "take `disclosure` out, unless no law that binds you asks for it")
    return ok("hand-overs are told, and the AI is disclosed" if routing.channels else "no channels")


def tools(setup: Setup) -> Finding:
    """Check that every tool of the agents file can be built, as a worker would."""
    try:
        built = build_tools(setup.routing.tools, os.environ)
    except SettingsError as error:
        found = str(error).removeprefix("AGENTS_FILE: ")
        return fault(found, "fix it in the agents file, or in the environment it names")
    used = {name for agent in setup.routing.agents.values() for name in agent.tools}
    if unused := sorted(built.keys() - used):
        names = ", ".join(unused)
        return warning(f"no agent uses {names}", "name it in an agent's `tools`, or take it out")
    return ok(f"{len(built)} can be built")
