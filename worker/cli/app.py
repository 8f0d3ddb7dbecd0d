# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that --help is quick
"""The command line: the commands of all wings, and two that are defined here."""

import signal
import sys
from importlib.metadata import version
from types import FrameType
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from worker.cli.console import print_json, print_line
from worker.cli.doctor.commands import doctor
from worker.cli.errors import CommandError, errors_as_one_line
from worker.cli.inspect.commands import health, metrics, simulate, status, stuck, why
from worker.cli.local.chat import chat
from worker.cli.local.sim import sim
from worker.cli.local.up import up
from worker.cli.operators.commands import erase, export, pause, resume, retention
from worker.cli.operators.conversations import say, threads
from worker.cli.operators.dead_letters import letters
from worker.cli.operators.usage import usage
from worker.cli.options import OPERATE, SEND, START, Json
from worker.cli.send.commands import schema, send

_TERMINATED: Final = 143


class Commands(TyperGroup):
    """The commands; an error they raise on purpose becomes one line."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own
        """Run the chosen command."""
        with errors_as_one_line():
            return super().invoke(ctx)


app = typer.Typer(
    name="worker",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings are environment variables (DATABASE_URL, BROKER_URL, TELNYX_API_KEY, "
    "NAMESPACE, AGENTS_FILE, …): see README.md. If a sandbox runs in this folder, commands use "
    "it. SANDBOX_DIR names another folder for it than .sandbox.",
)


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    app()


def _terminate(_number: int, _frame: FrameType | None) -> None:
    # An exception, so that every `with` on the way stops its servers and processes.
    sys.exit(_TERMINATED)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("message-worker"))
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Answer messages of any channel through Telnyx: one reply each, in order."""


@app.command(rich_help_panel=START)
def demo() -> None:
    """See it work: messages of several people, their replies, and the proof. Takes some seconds.

    Needs nothing and configures nothing: Postgres, Redis and a simulated Telnyx run in .sandbox
    for as long as the demo takes. Uses no server and no account of yours, even if configured.
    """
    from worker.cli.local.demo import run

    run()


for local in (up, chat, sim):
    app.command(rich_help_panel=START)(local)
app.command(rich_help_panel=SEND)(send)


@app.command(rich_help_panel=OPERATE)
def migrate(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 if migrations are missing.")
    ] = False,
    sql: Annotated[
        bool, typer.Option("--sql", help="Change nothing; print the SQL that is missing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring the database of DATABASE_URL to the newest migration."""
    from worker.cli import migrations
    from worker.config.settings import settings_for

    url = migrations.address_in(settings_for("database_url", "listen_database_url"))
    before, head = migrations.revision_of(url), migrations.head_revision()
    if sql:
        if before != head:
            migrations.upgrade(url, f"{before or 'base'}:head", as_sql=True)
        return
    if not check:
        migrations.upgrade(url)
    if as_json and check:
        print_json({"revision": before, "head": head, "up_to_date": before == head})
    elif as_json:
        print_json({"revision": head, "was": before})
    elif check:
        print_line(f"the database is at {before or 'nothing yet'}, the newest migration is {head}")
    elif before == head:
        print_line(f"nothing to do: the database is at {head}")
    else:
        print_line(f"migrated from {before or 'an empty database'} to {head}")
    if check and before != head:
        raise CommandError("migrations are missing: run `worker migrate`")


# The help lists the commands in this order, after the groups.
for command in (
    *(status, health, pause, resume, erase, export, retention),
    *(why, stuck, simulate, metrics, say, usage, doctor),
):
    app.command(rich_help_panel=OPERATE)(command)
app.add_typer(letters, name="dead-letters", rich_help_panel=OPERATE)
app.add_typer(threads, name="conversations", rich_help_panel=OPERATE)
app.command(rich_help_panel=SEND)(schema)
