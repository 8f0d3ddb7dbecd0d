"""The simulator as a child of the sandbox. For people there is `worker sim`."""

import argparse
from pathlib import Path

from worker.sandbox.simulator.config import SimulatorConfig, changed
from worker.sandbox.simulator.process import Place, run, settings_of

LOG_NAME = "telnyx.jsonl"
"""The log's name within the directory of `--state`."""


def main() -> None:
    """Read the arguments and serve until a signal."""
    arguments = _arguments()
    named = ("seed", "latency_s", "latency_sigma", "api_key")
    given = {name: getattr(arguments, name) for name in named}
    settings = {name: value for name, value in given.items() if value is not None}
    try:
        config = changed(SimulatorConfig(), settings | settings_of(arguments.set))
    except ValueError as error:
        raise SystemExit(f"simulator: {error}") from error
    place = Place(
        host=arguments.host,
        port=arguments.port,
        port_file=arguments.port_file,
        log_path=arguments.state / LOG_NAME if arguments.state else None,
    )

    def ready(port: int) -> None:
        url = f"http://{place.host}:{port}/v2"
        print(f"simulator of Telnyx on {url}, key {config.api_key}", flush=True)  # noqa: T201

    run(config, place, ready)


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
