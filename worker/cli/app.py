# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that --help is quick
"""The command line: which module defines each command; and two commands that are defined here."""

import gc
import signal
import sys
from importlib import import_module
from importlib.metadata import version
from types import FrameType
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_group

from worker.cli.errors import CommandError, errors_as_one_line
from worker.cli.options import OPERATE, SEND, START, Json
from worker.cli.text import print_json, print_text

_TERMINATED: Final = 143
_COMMANDS: Final = {
    "demo": (START, "app"),
    "up": (START, "local.up"),
    "chat": (START, "local.chat"),
    "sim": (START, "local.sim"),
    "gateway": (OPERATE, "servers"),
    "console": (OPERATE, "servers"),
    "mail-in": (OPERATE, "mail_in"),
    "mailbox": (OPERATE, "mailbox"),
    "send": (SEND, "send.commands"),
    "migrate": (OPERATE, "app"),
    "status": (OPERATE, "inspect.commands"),
    "health": (OPERATE, "inspect.health"),
    "pause": (OPERATE, "operators.commands"),
    "resume": (OPERATE, "operators.commands"),
    "erase": (OPERATE, "operators.commands"),
    "export": (OPERATE, "operators.commands"),
    "retention": (OPERATE, "operators.commands"),
    "why": (OPERATE, "inspect.commands"),
    "messages": (OPERATE, "operators.recent"),
    "users": (OPERATE, "operators.recent"),
    "stuck": (OPERATE, "inspect.commands"),
    "channels": (OPERATE, "operators.channels"),
    "simulate": (OPERATE, "inspect.commands"),
    "metrics": (OPERATE, "inspect.commands"),
    "say": (OPERATE, "operators.conversations"),
    "replies": (OPERATE, "operators.replies"),
    "usage": (OPERATE, "operators.usage"),
    "try-agent": (OPERATE, "operators.try_agent"),
    "doctor": (OPERATE, "doctor.commands"),
    "schema": (SEND, "send.commands"),
    "consent": (OPERATE, "operators.consent"),
    "dead-letters": (OPERATE, "operators.dead_letters"),
    "conversations": (OPERATE, "operators.conversations"),
}
"""Name -> panel of the help, and the module that defines it; in the order of the help."""


class Commands(TyperGroup):
    """The commands, each imported when it is named; an error they raise becomes one line."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - typer's own
        """Return the names, for the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002 - typer's own
        """Import a command. For a name that does not exist import all, to suggest one."""
        for name in [cmd_name] if cmd_name in _COMMANDS else _COMMANDS:
            if name not in self.commands:
                self.add_command(_imported(name))
        return self.commands.get(cmd_name)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer's own
        """Run the chosen command."""
        with errors_as_one_line():
            return super().invoke(ctx)


def _imported(name: str) -> Any:  # noqa: ANN401 - typer's own
    panel, module = _COMMANDS[name]
    found = getattr(import_module(f"worker.cli.{module}"), name.replace("-", "_"))
    alone = typer.Typer(rich_markup_mode="rich")
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name, rich_help_panel=panel)
    else:
        alone.command(name, rich_help_panel=panel)(found)
    return get_group(alone).commands[name]


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
    # What imports make lives on. Collecting among it takes a tenth of a command's CPU.
    gc.set_threshold(100_000)
    if sys.argv[1:2] == ["mail-in"]:
        from worker.cli.mail_in import mail_is_kept

        with mail_is_kept():
            app()
    if sys.argv[1:] != ["health"]:
        app()
        return
    # As probes run it, every few seconds. It has nothing to parse, and typer's parser would cost
    # more than the whole check.
    from worker.cli.inspect.health import health

    with errors_as_one_line():
        health()


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


def demo() -> None:
    """See it work: messages of several people, their replies, and the proof. Takes some seconds.

    Needs nothing and configures nothing: Postgres, Redis and a simulated Telnyx run in .sandbox
    for as long as the demo takes. Uses no server and no account of yours, even if configured.
    """
    from worker.cli.local.demo import run

    run()


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
    from worker.cli import revision
    from worker.config.settings import settings_for

    with revision.address_in(settings_for("database_url", "listen_database_url")) as url:
        before, head = revision.revision_of(url), revision.revisions()[-1]
        if sql or not check:
            from worker.cli.migrations import upgrade

            if sql and before != head:
                upgrade(url, f"{before or 'base'}:head", as_sql=True)
            if sql:
                return
            upgrade(url)
    if as_json and check:
        print_json({"revision": before, "head": head, "up_to_date": before == head})
    elif as_json:
        print_json({"revision": head, "was": before})
    elif check:
        print_text(f"the database is at {before or 'nothing yet'}, the newest migration is {head}")
    elif before == head:
        print_text(f"nothing to do: the database is at {head}")
    else:
        print_text(f"migrated from {before or 'an empty database'} to {head}")
    if check and (wrong := revision.wrong_with(before)):
        raise CommandError(wrong)
