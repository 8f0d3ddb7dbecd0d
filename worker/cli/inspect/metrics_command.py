"""The command `worker metrics`."""

from typing import Annotated, Final

import typer

_OPERATE: Final = "Operate"


def register(app: typer.Typer) -> None:
    """Add it to the command line."""
    app.command(rich_help_panel=_OPERATE)(metrics)


def metrics(
    *,
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 9465,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
) -> None:
    """Show Prometheus what waits, how long, and what went wrong. Ctrl-C stops it.

    One for an installation: it reads Postgres and the broker. What workers count themselves they
    show at METRICS_PORT. Never shows what people wrote, nor who they are.
    """
    from worker.cli.inspect import metrics as command  # noqa: PLC0415 - so that --help is quick

    command.run(host=host, port=port)
