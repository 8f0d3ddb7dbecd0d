# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that --help is quick
"""The commands that only read: why, stuck, simulate and metrics."""

from typing import Annotated

import typer

from worker.cli.options import OPERATE, Host, Json, Port


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (why, stuck, simulate, metrics):
        app.command(rich_help_panel=OPERATE)(command)


def why(
    asked: Annotated[
        str,
        typer.Argument(
            metavar="MESSAGE",
            help="Number of the message, the channel's own id, or CHANNEL:USER:MESSAGE-ID.",
        ),
    ],
    *,
    text: Annotated[
        bool, typer.Option("--text", help="Also print the texts of message and reply.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the history of one message, why it waits, and what happens next.

    Exits 1 if no accepted message has this id, and names other places that have it: the inbox, or
    the dead letters. With many messages, CHANNEL:USER:MESSAGE-ID is the quickest form.
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
    """Show what has waited for too long, and the command that helps. Exits 1 if something has.

    Lists users who are due and not claimed, have diverged, or have a call in doubt; overdue
    replies; closed gates with users behind them; a full inbox; dead and stalled workers. Never
    shows texts or addresses.
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
    """Show how an envelope would be routed and handled. Exits 1 if it would be a dead letter.

    Sends nothing and writes nothing; needs no database. Reads AGENTS_FILE as a worker does.
    """
    from worker.cli.send import dry_run as command

    command.run(path, as_json=as_json)


def metrics(*, port: Port = 9465, host: Host = "127.0.0.1") -> None:
    """Serve counts and ages of the whole installation to Prometheus. Ctrl-C stops it.

    Run one for each installation: it reads Postgres and the broker. Workers serve their own
    counters at METRICS_PORT. Never shows texts or addresses.
    """
    from worker.cli.inspect import metrics as command

    command.run(host=host, port=port)
