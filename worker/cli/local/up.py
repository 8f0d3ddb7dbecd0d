# ruff: noqa: PLC0415 - the command imports what it needs when it runs, so that --help is quick
"""`worker up`: worker, gateway and Flower in the foreground; other servers are embedded.

    starting ──▶ running ──Ctrl-C──▶ finishing replies ──Ctrl-C──▶ stopping at once
                    └── the worker died: report it, stop the rest, exit 1

Promises: the worker stops first, then Flower, then the embedded servers; no process stays.
"""

import os
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.panel import Panel
from rich.table import Table

from worker.cli.console import escape_for_terminal, out, print_line
from worker.cli.errors import CommandError

if TYPE_CHECKING:
    from worker.cli.local.service import FlowerAt
    from worker.config.settings import Settings
    from worker.domain.routing import Routing
    from worker.net.child_process import ChildProcess

_TICK_S: Final = 0.2

_Migrate = Annotated[bool, typer.Option("--migrate", help="Migrate the configured database first.")]
_Flower = Annotated[
    bool, typer.Option("--flower/--no-flower", help="Run Flower, the web page to watch.")
]
_FlowerPort = Annotated[
    int, typer.Option(help="Flower's port; 0 takes 5555, or a free one.", min=0, max=65535)
]


def up(*, migrate: _Migrate = False, flower: _Flower = True, flower_port: _FlowerPort = 0) -> None:
    """Run the service here: a worker, and Flower to watch it. Ctrl-C stops both.

    The gateway runs too if the agents file has a channel with a driver, or GATEWAY_TOKEN is set.
    Servers that are not configured are embedded and kept in .sandbox: a Postgres without
    DATABASE_URL, a Redis without BROKER_URL, a simulated Telnyx without TELNYX_API_KEY, and for
    mails an SMTP server without SMTP_URL. The mailbox of IMAP_URL is read. In production start the
    worker itself: celery -A worker worker.
    """
    from worker.cli import migrations, revision
    from worker.cli.local import mail, service
    from worker.cli.local.gateway import start_gateway
    from worker.config.agents_file import load_agents
    from worker.config.settings import is_configured, load_settings, sandbox_dir, settings_for

    servers, folder = service.not_configured(), sandbox_dir()
    mails_to_files = bool(servers) and not is_configured("SMTP_URL")
    # A bad setting ends the command before anything starts.
    load_agents(settings_for(*service.needs_beside(servers)).agents_file)
    redis_version = None
    with ExitStack() as stack:
        if servers:
            print_line(f"starting what is not configured, in {folder} …")
            redis_version = stack.enter_context(service.embedded(servers))
        settings = load_settings()
        if migrate:
            with revision.address_in(settings) as url:
                migrations.upgrade(url)
        revision.require_newest(settings.database_url)
        flower_at = service.FlowerAt.chosen(flower_port) if flower else None
        flower_child = service.start_flower(flower_at, stack) if flower_at else None
        wait = start_gateway(settings, stack, log=None)
        mailbox = mail.start_mailbox(settings, stack)
        worker = service.start_worker(log=None)
        stack.callback(worker.stop, service.COLD_STOP_S)
        service.await_worker(settings.database_url, worker, None)
        gateway = wait()
        # Before the banner: who has seen it may stop it.
        stops = _counted_stops()
        routing = load_agents(settings.agents_file)[0]
        mails = _mail_rows(settings, routing, to_files=mails_to_files)
        out.print(_banner(servers, flower_at, folder, redis_version, gateway and gateway[0], mails))
        ways = ["chat --mail"] if mails and mails_to_files else []
        whole = len(servers) == len(service.SERVERS)
        phones = whole and routing.telnyx_policy() is not None
        _print_commands([*(["chat --sms"] if phones else []), *ways], whole=whole)
        needed = {"worker": worker, "gateway": gateway and gateway[1], "mailbox's reader": mailbox}
        _supervise(needed, flower_child, stops)
        print_line("stopping: replies in flight are finished first (Ctrl-C again: at once) …")
        service.stop_worker(worker, stops)
    print_line("stopped")


def _counted_stops() -> Sequence[int]:
    """Count Ctrl-C, SIGTERM and a closed terminal from here on; they end nothing by themselves."""
    stops: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # No lock and no output in a handler: it may interrupt the code that holds them.
        signal.signal(number, lambda stop, _frame: stops.append(stop))
    return stops


def _supervise(
    needed: "Mapping[str, ChildProcess | None]",
    flower: "ChildProcess | None",
    stops: Sequence[int],
) -> None:
    while not stops:
        for name, one in needed.items():
            if one is not None and one.exit_code is not None:
                raise CommandError(f"the {name} ended by itself, with exit code {one.exit_code}")
        if flower is not None and flower.exit_code is not None:
            flower = None
            print_line("[yellow]Flower ended by itself; the worker goes on without it[/]")
        time.sleep(_TICK_S)


def _banner(
    servers: Collection[str],
    flower: "FlowerAt | None",
    folder: Path,
    redis_version: str | None,
    gateway: int | None,
    mails: Mapping[str, str],
) -> Panel:
    table = Table.grid(padding=(0, 2))
    embedded = f"[yellow]embedded[/], kept in {folder}"
    table.add_row("Postgres", embedded if "postgres" in servers else "as in DATABASE_URL")
    redis = f"{embedded}, version {redis_version}"
    table.add_row("Redis", redis if "redis" in servers else "as in BROKER_URL")
    telnyx = "[yellow]simulated[/]: set TELNYX_API_KEY for real answers"
    table.add_row("Telnyx", telnyx if "simulator" in servers else "configured (TELNYX_API_KEY)")
    if gateway is not None:
        table.add_row("Gateway", f"http://127.0.0.1:{gateway}")
    for title, text in mails.items():
        table.add_row(title, text)
    if flower is not None:
        password = flower.password if flower.generated else "(as in FLOWER_BASIC_AUTH)"
        table.add_row("Flower", f"http://127.0.0.1:{flower.port}")
        table.add_row("", f"user {flower.user}  password {password}")
    table.add_row("stop", "Ctrl-C")
    return Panel(table, title="the service is up", expand=False)


def _mail_rows(settings: "Settings", routing: "Routing", *, to_files: bool) -> Mapping[str, str]:
    """Return how mails come in and go out, for the banner; empty = there is no channel for them."""
    from worker.cli.local.mail import mail_channel, mails_folder

    if mail_channel(routing) is None:
        return {}
    ways = ["worker mail-in < mail.eml"]
    if settings.gateway_token or settings.gateway_secret:
        ways.append("POST /email of the gateway")
    if settings.imap_url:
        ways.append("the mailbox of IMAP_URL")
    out_to = f"[yellow]not sent[/], kept in {mails_folder()}" if to_files else "as in SMTP_URL"
    return {"mail in": ", ".join(ways), "mail out": out_to}


def _print_commands(chats: Sequence[str], *, whole: bool) -> None:
    """Print what to type next, without a frame, which would break long lines."""
    from worker.cli.local.service import TRY_IT, as_typed

    same = "" if whole and "SANDBOX_DIR" not in os.environ else ", with the same settings"
    print_line(f"Try it in a second terminal, in this folder{same}:")
    for command in (TRY_IT, "chat", *chats, "status"):
        print_line(f"  [bold]{escape_for_terminal(as_typed())} {command}[/]")
