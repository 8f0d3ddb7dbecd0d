# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that --help is quick
"""The commands, their options and what their help says. What they do is in the other modules."""

import signal
import sys
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from worker.cli.doctor import commands as doctor_command
from worker.cli.errors import errors_as_one_line
from worker.cli.inspect import commands as explain_commands
from worker.cli.inspect import metrics_command
from worker.cli.operators import commands as operators
from worker.cli.operators import conversation_commands
from worker.cli.options import OPERATE, START, Host, Json, Port
from worker.cli.send import commands as send_command
from worker.cli.send import schema

_TERMINATED: Final = 143


class Commands(TyperGroup):
    """The commands; what they raise on purpose becomes one line."""

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
    "NAMESPACE, AGENTS_FILE, …): see README.md. Where a sandbox runs in this folder, commands use "
    "it. SANDBOX_DIR names another folder for it than .sandbox.",
)


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    app()


def _terminate(_number: int, _frame: FrameType | None) -> None:
    sys.exit(_TERMINATED)  # as an exception, so that what was started is stopped


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


@app.command(rich_help_panel=START)
def demo() -> None:
    """See it work: messages of several people, their replies, and the proof. Takes some seconds.

    Needs nothing and configures nothing: Postgres, Redis and a simulated Telnyx run in .sandbox
    for as long as the demo takes. Uses no server and no account of yours, whatever is configured.
    """
    from worker.cli.local import demo as command

    command.run()


@app.command(rich_help_panel=START)
def up(
    *,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Migrate the configured database first.")
    ] = False,
    flower: Annotated[
        bool, typer.Option("--flower/--no-flower", help="Run Flower, the web page to watch.")
    ] = True,
    flower_port: Annotated[
        int, typer.Option(help="Flower's port; 0 takes 5555, or a free one.", min=0, max=65535)
    ] = 0,
) -> None:
    """Run the service here: a worker, and Flower to watch it. Ctrl-C stops both.

    What is not configured is embedded and kept in .sandbox: a Postgres without DATABASE_URL, a
    Redis without BROKER_URL, a simulated Telnyx without TELNYX_API_KEY. In production start the
    worker itself: celery -A worker worker.
    """
    from worker.cli.local import up as command

    command.run(command.UpOrder(migrate=migrate, flower=flower, flower_port=flower_port))


@app.command(rich_help_panel=START)
def chat(
    *,
    channel: Annotated[str, typer.Option(help="The channel to write on.")] = "web",
    user: Annotated[str, typer.Option(help="Who you are on it.")] = "you",
    recipient: Annotated[str, typer.Option(help="Our address that you write to.")] = "",
    thread: Annotated[str, typer.Option(help="A thread of its own.")] = "",
    agent: Annotated[str | None, typer.Option(help="Which agent answers.")] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", help="Give up after so many seconds without a reply.")
    ] = 120.0,
) -> None:
    """Talk to the service, a line a message, through the queue and a worker as anybody does.

    Uses the service that runs; where none does, starts one for the talk. Lines may come from a
    pipe: echo "Hello" | worker chat
    """
    from worker.cli.local import chat as command

    person = send_command.given(
        channel=channel, user=user, recipient=recipient, thread=thread, agent=agent
    )
    command.run(person, timeout_s=timeout_s)


@app.command(rich_help_panel=START)
def sim(
    *,
    port: Port = 8765,
    host: Host = "127.0.0.1",
    port_file: Annotated[
        Path | None, typer.Option(help="Write the port here once it serves.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of latencies, faults by chance, and the webhooks' key.")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(help="Keep everything in this file, and go on from it at the next start."),
    ] = None,
    latency_s: Annotated[
        float | None, typer.Option("--latency", min=0, help="Seconds that the model takes.")
    ] = None,
    switch: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A setting of the simulator; repeatable."),
    ] = None,
) -> None:
    """Run only the simulated Telnyx, to build a client against or to hurt one. Ctrl-C stops it.

    worker sim --latency 0.5 --switch list_visible_after_s=5
    """
    from worker.cli.local import sim as command

    command.run(
        command.SimOrder(
            host=host,
            port=port,
            port_file=port_file,
            seed=seed,
            log=log,
            latency_s=latency_s,
            switches=switch or [],
        )
    )


send_command.register(app)


@app.command(rich_help_panel=OPERATE)
def migrate(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 where migrations are missing.")
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
    """Show what is up and what it is doing: counts, ages, reasons. Exits 1 where something is down.

    Never shows what people wrote, nor who they are.
    """
    from worker.cli.inspect import status as command

    command.run(as_json=as_json, watch=watch)


operators.register(app)
explain_commands.register(app)
conversation_commands.register(app)
doctor_command.register(app)
metrics_command.register(app)
schema.register(app)
