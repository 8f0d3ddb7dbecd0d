"""The command `worker schema`: the contracts with other programs, in a form for machines."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from worker.cli.options import SEND


class Contract(StrEnum):
    """What there is a schema of."""

    ENVELOPE = "envelope"


def register(app: typer.Typer) -> None:
    """Add it to the command line."""
    app.command(rich_help_panel=SEND)(schema)


def schema(
    _contract: Annotated[Contract, typer.Argument(metavar="envelope", help="What to print.")],
) -> None:
    """Print the JSON Schema (draft 2020-12) of what producers queue.

    worker schema envelope > envelope.schema.json
    """
    from worker import envelope  # noqa: PLC0415 - so that --help is quick

    typer.echo(json.dumps(envelope.schema(), indent=2))
