"""`worker up`: worker and Flower in the foreground; servers that are not configured are embedded.

    starting ──▶ running ──Ctrl-C──▶ finishing replies ──Ctrl-C──▶ stopping at once
                    └── the worker died: report it, stop the rest, exit 1

Promises: the worker stops first, then Flower, then the embedded servers; no process stays.
"""

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import Final

from rich.panel import Panel
from rich.table import Table

from worker.cli import migrations
from worker.cli.console import out, print_line
from worker.cli.errors import CommandError
from worker.cli.local.children import (
    COLD_STOP_S,
    WARM_STOP_S,
    FlowerAt,
    start_flower,
    start_worker,
)
from worker.cli.local.embedded import EmbeddedServers, embedded
from worker.cli.local.service import await_worker
from worker.cli.settings import all_settings, routing_of, settings_for
from worker.config.settings import sandbox_dir
from worker.net.child_process import ChildProcess

_TICK_S: Final = 0.2


class StopRequests:
    """Counts Ctrl-C, SIGTERM and a closed terminal from here on, instead of dying of them."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        # No lock and no output: a handler may interrupt the code that holds them.
        self.count += 1


def run(*, migrate: bool, flower: bool, flower_port: int) -> None:
    """Run until somebody stops it. Raises `CommandError`.

    `flower_port`: 0 = 5555, or any free one.
    """
    servers = EmbeddedServers.not_configured()
    # A bad setting ends the command before anything starts.
    routing_of(settings_for(*servers.configured()))
    with ExitStack() as stack:
        if servers:
            print_line(f"starting what is not configured, in {sandbox_dir()} …")
            stack.enter_context(embedded(servers))
        settings = all_settings()
        if migrate:
            migrations.upgrade(settings.database_url)
        migrations.require_newest(settings.database_url)
        flower_at = FlowerAt.chosen(flower_port) if flower else None
        flower_child: ChildProcess | None = None
        if flower_at is not None:
            flower_child = start_flower(flower_at, log=None)
            stack.callback(flower_child.stop, COLD_STOP_S)
        worker = start_worker(log=None)
        stack.callback(worker.stop, COLD_STOP_S)
        await_worker(settings.database_url, worker, None)
        out.print(_banner(servers, flower_at))
        stops = StopRequests()
        _supervise(worker, flower_child, stopping=lambda: stops.count > 0)
        print_line("stopping: replies in flight are finished first (Ctrl-C again: at once) …")
        _stop_worker(worker, at_once=lambda: stops.count > 1)
    print_line("stopped")


def _supervise(
    worker: ChildProcess, flower: ChildProcess | None, *, stopping: Callable[[], bool]
) -> None:
    flower_runs = flower is not None
    while not stopping():
        if worker.exit_code is not None:
            raise CommandError(f"the worker ended by itself, with exit code {worker.exit_code}")
        if flower_runs and flower is not None and flower.exit_code is not None:
            flower_runs = False
            print_line("[yellow]Flower ended by itself; the worker goes on without it[/]")
        time.sleep(_TICK_S)


def _stop_worker(worker: ChildProcess, *, at_once: Callable[[], bool]) -> None:
    """Let the worker finish its replies, until the second Ctrl-C."""
    worker.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + WARM_STOP_S
    while not worker.wait(_TICK_S):
        if at_once() or time.monotonic() > deadline:
            print_line("stopping at once; what was in flight is taken up at the next start")
            worker.send_signal(signal.SIGQUIT)
            if not worker.wait(COLD_STOP_S):
                worker.send_signal(signal.SIGKILL)
            return


def _banner(servers: EmbeddedServers, flower: FlowerAt | None) -> Panel:
    table = Table.grid(padding=(0, 2))
    table.add_row("Postgres", _origin("DATABASE_URL", is_embedded=servers.postgres))
    table.add_row("Redis", _origin("BROKER_URL", is_embedded=servers.redis))
    telnyx = "[yellow]simulated[/]: set TELNYX_API_KEY for real answers"
    table.add_row("Telnyx", telnyx if servers.simulator else "configured (TELNYX_API_KEY)")
    if flower is not None:
        password = flower.password if flower.generated else "(as in FLOWER_BASIC_AUTH)"
        table.add_row("Flower", f"http://{flower.host}:{flower.port}")
        table.add_row("", f"user {flower.user}  password {password}")
    table.add_row("", "")
    table.add_row("try it", "in a second terminal, in this folder:")
    table.add_row("", "[bold]worker send --channel sms --user +13125550001 --text Hello --wait[/]")
    table.add_row("", "[bold]worker chat[/]   [bold]worker status[/]")
    table.add_row("stop", "Ctrl-C")
    return Panel(table, title="the service is up", expand=False)


def _origin(variable: str, *, is_embedded: bool) -> str:
    return f"[yellow]embedded[/], kept in {sandbox_dir()}" if is_embedded else f"as in {variable}"
