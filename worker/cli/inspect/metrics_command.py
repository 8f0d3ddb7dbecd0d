"""The command `worker metrics`."""

import typer

from worker.cli.options import OPERATE, Host, Port


def register(app: typer.Typer) -> None:
    """Add it to the command line."""
    app.command(rich_help_panel=OPERATE)(metrics)


def metrics(
    *,
    port: Port = 9465,
    host: Host = "127.0.0.1",
) -> None:
    """Show Prometheus what waits, how long, and what went wrong. Ctrl-C stops it.

    One for an installation: it reads Postgres and the broker. What workers count themselves they
    show at METRICS_PORT. Never shows what people wrote, nor who they are.
    """
    from worker.cli.inspect import metrics as command  # noqa: PLC0415 - so that --help is quick

    command.run(host=host, port=port)
