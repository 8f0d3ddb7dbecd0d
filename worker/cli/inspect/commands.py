# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that --help is quick
"""The commands that find out why: why, stuck and simulate."""

from typing import Annotated

import typer

from worker.cli.options import OPERATE, Json


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(rich_help_panel=OPERATE)(why)
    app.command(rich_help_panel=OPERATE)(stuck)
    app.command(rich_help_panel=OPERATE)(simulate)


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
    from worker.cli.inspect import why as command

    command.run(asked, text=text, as_json=as_json)


def stuck(
    *,
    after_s: Annotated[
        float, typer.Option("--after", min=0, help="Seconds that anything may wait.")
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Show what waits for longer than it should, and what to do. Exits 1 where there is anything.

    Who is due and not taken up, has diverged, or is held in doubt; replies that are overdue; closed
    gates with people behind them; an inbox that nobody empties; workers that died or stall. Never
    shows what people wrote, nor who they are.
    """
    from worker.cli.inspect import stuck as command

    command.run(after_s=after_s, as_json=as_json)


def simulate(
    path: Annotated[
        str, typer.Argument(metavar="FILE", help="One envelope as JSON; - reads stdin.")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Show where an envelope would go and what would become of it. Exits 1 for a dead letter.

    Calls nobody and writes nothing; needs no database. AGENTS_FILE is read as a worker reads it.
    """
    from worker.cli.send import dry_run as command

    command.run(path, as_json=as_json)
