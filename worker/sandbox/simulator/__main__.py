"""The simulator as a process of its own; it ends cleanly on SIGTERM and SIGINT."""

import argparse
import asyncio
import json
import resource
import signal
from pathlib import Path

from worker.sandbox.simulator.config import SimulatorConfig, changed
from worker.sandbox.simulator.server import serve
from worker.sandbox.simulator.state import State

LOG_NAME = "telnyx.jsonl"
"""The log's name within the directory of `--state`."""


def main() -> None:
    """Read the arguments and serve until a signal."""
    arguments = _arguments()
    try:
        config = changed(SimulatorConfig(), _settings(arguments))
    except ValueError as error:
        raise SystemExit(f"simulator: {error}") from error
    log_path: Path | None = None
    if arguments.state is not None:
        arguments.state.mkdir(parents=True, exist_ok=True)
        log_path = arguments.state / LOG_NAME
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(_serve(State(config, log_path), arguments))


async def _serve(state: State, arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def ready(port: int) -> None:
        url = f"http://{arguments.host}:{port}/v2"
        print(f"simulator of Telnyx on {url}, key {state.config.api_key}", flush=True)  # noqa: T201
        if arguments.port_file is not None:
            # Whoever waits for the file must never read half a number.
            draft = arguments.port_file.with_name(arguments.port_file.name + ".new")
            draft.write_text(f"{port}\n")
            draft.replace(arguments.port_file)

    await serve(state, host=arguments.host, port=arguments.port, ready=ready, stop=stop)


def _settings(arguments: argparse.Namespace) -> dict[str, object]:
    settings: dict[str, object] = {}
    for name in ("seed", "latency_s", "latency_sigma", "api_key"):
        if getattr(arguments, name) is not None:
            settings[name] = getattr(arguments, name)
    for text in arguments.set:
        name, _, value = text.partition("=")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="worker.sandbox.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--port-file", type=Path, help="where the port is written once it serves")
    parser.add_argument("--state", type=Path, help="directory of the log, which keeps the threads")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--latency-s", type=float, help="median time of a model run")
    parser.add_argument("--latency-sigma", type=float, help="spread of a log-normal; 0 = fixed")
    parser.add_argument("--api-key")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="any field of SimulatorConfig, again and again",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
