"""`worker sim`: the simulator of Telnyx alone, in the foreground, to build a client against."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from worker.cli.console import out, print_line
from worker.cli.errors import MISUSED, CommandError

if TYPE_CHECKING:
    from worker.sandbox.simulator.serving.process import Place


def run(
    *,
    host: str,
    port: int,
    port_file: Path | None,
    seed: int | None,
    log: Path | None,
    latency_s: float | None,
    switches: list[str],
) -> None:
    """Serve until SIGTERM or Ctrl-C. Raises `CommandError`.

    `port` 0 = any free one; `seed` and `latency_s` None = the setting's default.
    """
    try:
        from worker.sandbox.simulator.behaviour.config import (  # noqa: PLC0415
            SimulatorConfig,
            changed,
        )
        from worker.sandbox.simulator.serving.process import Place, settings_of  # noqa: PLC0415
        from worker.sandbox.simulator.serving.process import run as serve  # noqa: PLC0415
    except ImportError as error:
        raise CommandError(
            f"{error.name} is not installed: install the extra `worker[sandbox]`",
            exit_code=MISUSED,
        ) from None
    flags = {"seed": seed, "latency_s": latency_s}
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        config = changed(SimulatorConfig(), {**given, **settings_of(switches)})
    except ValueError as error:
        raise CommandError(f"--switch: {_in_one_line(error)}", exit_code=MISUSED) from None
    place = Place(host=host, port=port, port_file=port_file, log_path=log)
    try:
        serve(config, place, lambda real_port: _announce(place, real_port, config.api_key))
    except OSError as error:
        raise CommandError(f"the simulator cannot start: {error}") from None
    print_line("stopped")


def _in_one_line(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    faults = error.errors(include_url=False, include_input=False)
    return "; ".join(
        ": ".join((*map(str, each["loc"]), each["msg"].removeprefix("Value error, ")))
        for each in faults
    )


def _announce(place: "Place", port: int, api_key: str) -> None:
    host = f"[{place.host}]" if ":" in place.host else place.host
    root = f"http://{host}:{port}"
    table = Table.grid(padding=(0, 2))
    table.add_row("base URL", f"{root}/v2")
    table.add_row("key", api_key)
    table.add_row("controls", f"{root}/sim, without a key")
    table.add_row("log", escape(str(place.log_path)) if place.log_path else f"{root}/sim/log")
    table.add_row("stop", "Ctrl-C")
    out.print(Panel(table, title="Telnyx, simulated", expand=False))
    print_line("point a service at it:")
    print_line(f"  export TELNYX_BASE_URL={root}/v2 TELNYX_API_KEY={api_key}")
    print_line("or an SDK:")
    print_line(escape(f'  OpenAI(base_url="{root}/v2/ai/openai", api_key="{api_key}")'))
    print_line(escape(f'  Telnyx(base_url="{root}/v2", api_key="{api_key}")'))
