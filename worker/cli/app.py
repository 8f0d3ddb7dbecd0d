# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that --help is quick
"""The command line: the commands of all wings, and the two of no wing."""

import signal
import sys
from importlib.metadata import version
from types import FrameType
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from worker.cli.doctor import commands as doctor_command
from worker.cli.errors import errors_as_one_line
from worker.cli.inspect import commands as explain_commands
from worker.cli.local import commands as local_command
from worker.cli.operators import commands as operators
from worker.cli.operators import conversation_commands
from worker.cli.options import OPERATE, Json
from worker.cli.send import commands as send_command

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
        typer.echo(version("worker"))
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


local_command.register(app)
send_command.register(app)


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
    from worker.cli.settings import settings_for

    url = settings_for("database_url").database_url
    migrations.run(url, check_only=check, as_sql=sql, as_json=as_json)


@app.command(rich_help_panel=OPERATE)
def status(
    *,
    as_json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every two seconds, until Ctrl-C.")
    ] = False,
) -> None:
    """Show the state of all parts: counts, ages, reasons. Exits 1 if something is down.

    Never shows texts or addresses.
    """
    from worker.cli.inspect import status as command

    command.run(as_json=as_json, watch=watch)


operators.register(app)
explain_commands.register(app)
conversation_commands.register(app)
doctor_command.register(app)
send_command.register_schema(app)
