"""Options, arguments and panels of the help that several commands share."""

from typing import Annotated, Final

import typer

START: Final = "Start here"
SEND: Final = "Send messages"
OPERATE: Final = "Operate"

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; only count.")]
User = Annotated[
    str, typer.Argument(metavar="USER", help="The id of a channel user, or CHANNEL:ADDRESS.")
]
Limit = Annotated[int, typer.Option(min=1, help="At most this many.")]
Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)]


def given(**fields: str | None) -> dict[str, object]:
    """Start an envelope with the options that were given: it has no fields that nobody set."""
    from message_worker_client.envelope import VERSION  # noqa: PLC0415 - pydantic would make --help slow

    return {"version": VERSION} | {name: value for name, value in fields.items() if value}
