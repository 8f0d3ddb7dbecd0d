"""The agents file of a worker process: read at the start, and again when somebody asks for it."""

from collections.abc import Mapping
from pathlib import Path

from worker.config.agents_file import load_agents
from worker.domain.errors import SettingsError
from worker.domain.routing import Routing
from worker.domain.timing import Timing
from worker.observability.logs import log


class CurrentAgents:
    """The agents file as it was last read; a step of a turn keeps what it started with."""

    def __init__(self, path: Path | None) -> None:
        """Read the file. Raises `SettingsError`."""
        self._path = path
        self.routing, self.timing = load_agents(path)

    def current(self) -> Routing:
        """Return the newest that was read."""
        return self.routing

    def reload(self) -> None:
        """Read the file again; keep the old one if it is wrong, or changes what is built."""
        before = _built_from(self.routing, self.timing)
        try:
            routing, timing = load_agents(self._path)
        except SettingsError as error:
            log.error("agents.reload_refused", error=str(error))
            return
        after = _built_from(routing, timing)
        if changed := [name for name, value in after.items() if value != before[name]]:
            log.error("agents.reload_refused", error="restart to change " + ", ".join(changed))
            return
        old, self.routing = self.routing.agents, routing
        changed = [name for name, agent in routing.agents.items() if agent != old[name]]
        log.info("agents.reloaded", changed=changed)


def _built_from(routing: Routing, timing: Timing) -> Mapping[str, object]:
    """Return, by its name in the file, what pools, leases, tools and channels were built from."""
    agents = routing.agents
    return {
        "the names of [agents]": agents.keys(),
        "the longest call_timeout_s or timeout_s": routing.longest_step_s(),
        "stream": any(agent.stream for agent in agents.values()),
        "[tools]": routing.tools,
        "delivery": {name: one.delivery for name, one in routing.channels.items() if one.delivery},
        "refusals": routing.refusals,
        "[limits]": routing.calls_per_second,
        "[timing]": timing,
    }
