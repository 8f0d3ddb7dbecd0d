"""The command `worker doctor`."""

from typing import Annotated

import typer

from worker.cli.options import OPERATE, Json


def register(app: typer.Typer) -> None:
    """Add it to the command line."""
    app.command(rich_help_panel=OPERATE)(doctor)


def doctor(
    *,
    no_telnyx_writes: Annotated[
        bool,
        typer.Option(
            "--no-telnyx-writes",
            help="Play no turns on a conversation of its own at Telnyx, which cost some tokens.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check settings, Postgres, Redis, Celery, Flower and Telnyx; name the fix of each fault.

    Works with settings missing or broken, and with everything down. Exits 1 if it finds a fault.
    """
    from worker.cli.doctor import doctor as command  # noqa: PLC0415 - so that --help is quick

    command.run(as_json=as_json, telnyx_writes=not no_telnyx_writes)
