# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that --help is quick
"""The commands that find out why: why, stuck and simulate."""

from typing import Annotated, Final

import typer

_OPERATE: Final = "Operate"

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(rich_help_panel=_OPERATE)(why)


def why(
    asked: Annotated[
        str,
        typer.Argument(
            metavar="MESSAGE",
            help="Our number of it, the channel's own id, or CHANNEL:USER:MESSAGE-ID.",
        ),
    ],
    *,
    text: Annotated[
        bool, typer.Option("--text", help="Also what was written, and the reply.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the whole life of one message: what it waits for, what happens next, how it came to it.

    Exits 1 where no accepted message has this id, and says where else it was found: in the inbox,
    or refused among the dead letters. CHANNEL:USER:MESSAGE-ID is the quickest where there are many.
    """
    from worker.cli import why as command

    command.run(asked, text=text, as_json=as_json)
