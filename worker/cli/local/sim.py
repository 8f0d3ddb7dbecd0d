# ruff: noqa: PLC0415 - production does not install the sandbox, and --help is quick
"""`worker sim`: the simulator of Telnyx alone, in the foreground, to build a client against."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from worker.cli.console import out, print_line
from worker.cli.errors import CommandError, MisuseError
from worker.cli.options import Host, Port

if TYPE_CHECKING:
    from worker.sandbox.simulator.behaviour.config import SimulatorConfig
    from worker.sandbox.simulator.serving.process import Place


_PortFile = Annotated[Path | None, typer.Option(help="Write the port here once it serves.")]
_Seed = Annotated[
    int | None, typer.Option(help="Seed for latencies, random faults and the webhook key.")
]
_Log = Annotated[
    Path | None, typer.Option(help="Keep the state in this file; the next start continues from it.")
]
_Latency = Annotated[
    float | None, typer.Option("--latency", min=0, help="Seconds until the model answers.")
]
_KeyFile = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, help="Ask for the key in this file, for the controls too."
    ),
]
_Switch = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="A setting of the simulator; repeatable."),
]


def sim(
    *,
    port: Port = 8765,
    host: Host = "127.0.0.1",
    port_file: _PortFile = None,
    key_file: _KeyFile = None,
    seed: _Seed = None,
    log: _Log = None,
    latency_s: _Latency = None,
    switch: _Switch = None,
) -> None:
    """Run only the simulated Telnyx, to build or test a client. Ctrl-C stops it.

    worker sim --latency 0.5 --switch list_visible_after_s=5
    """
    from worker.sandbox.simulator.behaviour.config import SimulatorConfig, changed
    from worker.sandbox.simulator.serving.process import Place, settings_of
    from worker.sandbox.simulator.serving.process import run as serve

    flags: dict[str, object] = {"seed": seed, "latency_s": latency_s}
    given = {name: value for name, value in flags.items() if value is not None}
    if key_file is not None:
        given |= {"api_key": key_file.read_text().strip(), "lock_controls": True}
    try:
        config = changed(SimulatorConfig(), {**given, **settings_of(switch or [])})
    except ValueError as error:
        raise MisuseError(f"--switch: {_in_one_line(error)}") from None
    place = Place(host=host, port=port, port_file=port_file, log_path=log)
    try:
        serve(config, place, lambda real_port: _announce(place, real_port, config))
    except OSError as error:
        raise CommandError(f"the simulator cannot start: {error}") from None
    print_line("stopped")


def _in_one_line(error: ValueError) -> str:
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    faults = error.errors(include_url=False, include_input=False)
    return "; ".join(
        ": ".join((*map(str, each["loc"]), each["msg"].removeprefix("Value error, ")))
        for each in faults
    )


def _announce(place: "Place", port: int, config: "SimulatorConfig") -> None:
    api_key = config.api_key
    host = f"[{place.host}]" if ":" in place.host else place.host
    root = f"http://{host}:{port}"
    table = Table.grid(padding=(0, 2))
    table.add_row("base URL", f"{root}/v2")
    table.add_row("key", api_key)
    table.add_row(
        "controls", f"{root}/sim, {'with the' if config.lock_controls else 'without a'} key"
    )
    table.add_row("log", escape(str(place.log_path)) if place.log_path else f"{root}/sim/log")
    table.add_row("stop", "Ctrl-C")
    out.print(Panel(table, title="Telnyx, simulated", expand=False))
    print_line("point a service at it:")
    print_line(f"  export TELNYX_BASE_URL={root}/v2 TELNYX_API_KEY={api_key}")
    print_line("or an SDK:")
    print_line(escape(f'  OpenAI(base_url="{root}/v2/ai/openai", api_key="{api_key}")'))
    print_line(escape(f'  Telnyx(base_url="{root}/v2", api_key="{api_key}")'))
