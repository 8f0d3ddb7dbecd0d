"""Runs the simulator as a process, until SIGTERM or Ctrl-C."""

import asyncio
import json
import resource
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from worker.sandbox.simulator.behaviour.config import SimulatorConfig
from worker.sandbox.simulator.serving.server import serve
from worker.sandbox.simulator.state.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The address it listens on, and the files it writes."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    port_file: Path | None = None
    """Holds the port from the moment it serves."""
    log_path: Path | None = None
    """The log, which keeps the threads from one run to the next; None = neither is kept."""


def run(config: SimulatorConfig, place: Place, ready: Callable[[int], None]) -> None:
    """Serve until a signal. `ready` is called with the port. OSError if it cannot listen."""
    if place.log_path is not None:
        place.log_path.parent.mkdir(parents=True, exist_ok=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_serve(State(config, place.log_path), place, ready))


def settings_of(pairs: Iterable[str]) -> dict[str, object]:
    """Read `NAME=VALUE`; a value that is no JSON is a text. ValueError if there is no `=`."""
    settings: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"NAME=VALUE expected, not {pair}")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


async def _serve(state: State, place: Place, ready: Callable[[int], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def listening(port: int) -> None:
        ready(port)
        if place.port_file is not None:
            # A reader that waits for the file must never read half a number.
            draft = place.port_file.with_name(place.port_file.name + ".new")
            draft.write_text(f"{port}\n")
            draft.replace(place.port_file)

    await serve(state, host=place.host, port=place.port, ready=listening, stop=stop)
