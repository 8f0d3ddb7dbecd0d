"""The commands for producers: send and schema."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from worker.cli.errors import MISUSED, CommandError
from worker.cli.options import SEND, Json, given
from worker.cli.send.message_file import Spread


def register(app: typer.Typer) -> None:
    """Add `send` to the command line."""
    app.command(rich_help_panel=SEND)(send)


def register_schema(app: typer.Typer) -> None:
    """Add `schema`, which the help lists last."""
    app.command(rich_help_panel=SEND)(schema)


def send(
    *,
    channel: Annotated[str | None, typer.Option(help="Such as sms, email, web.")] = None,
    user: Annotated[str | None, typer.Option(help="The person's address on it.")] = None,
    text: Annotated[str | None, typer.Option(help="The text of the message.")] = None,
    message_id: Annotated[
        str | None,
        typer.Option(help="The channel's own id; the same id again does nothing."),
    ] = None,
    recipient: Annotated[str, typer.Option(help="Our address that was written to.")] = "",
    thread: Annotated[str, typer.Option(help="The mail thread or chat session.")] = "",
    agent: Annotated[str | None, typer.Option(help="Which agent answers.")] = None,
    sent_at: Annotated[str | None, typer.Option(help="RFC 3339 with an offset.")] = None,
    expires_at: Annotated[str | None, typer.Option(help="Do not answer after this.")] = None,
    reply_to: Annotated[str | None, typer.Option(help="A configured route for the reply.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            readable=True,
            help="Send each line as a message: .jsonl (envelopes, or parts of them that the other "
            "options complete) or .tsv. Sending the same file again changes nothing.",
        ),
    ] = None,
    text_column: Annotated[
        int | None, typer.Option(help="Column of the .tsv with the text, from 1 (default: last).")
    ] = None,
    users: Annotated[
        int | None,
        typer.Option(min=1, help="Spread a file's lines over as many invented users."),
    ] = None,
    spread: Annotated[
        Spread, typer.Option(help="One user a line in turn, or one for each block of 15 lines.")
    ] = Spread.ROUND_ROBIN,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait until every message has its outcome; count them."),
    ] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds for --wait.")] = 300.0,
    as_json: Json = False,
) -> None:
    """Queue one message, or a file of them, as any producer does.

    One: worker send --channel sms --user +13125550001 --text Hello --wait

    Many: worker send --file messages.tsv --channel sms --users 200 --wait
    """
    from worker.cli.send import send as command  # noqa: PLC0415 - so that --help is quick

    flags = given(
        channel=channel,
        user=user,
        text=text,
        message_id=message_id,
        recipient=recipient,
        thread=thread,
        agent=agent,
        sent_at=sent_at,
        expires_at=expires_at,
        reply_to=reply_to,
    )
    after = command.FinishOptions(wait=wait, timeout_s=timeout_s, as_json=as_json)
    if file is None:
        command.send_one(flags, after)
        return
    if message_id is not None or (user is not None and users is not None):
        raise CommandError(
            "with --file, --message-id cannot be given, and only one of --user and --users",
            exit_code=MISUSED,
        )
    options = command.FileOptions(text_column=text_column, users=users, spread=spread)
    command.send_file(file, options, flags, after)


class Contract(StrEnum):
    """The contracts with other programs that have a schema."""

    ENVELOPE = "envelope"


def schema(
    _contract: Annotated[Contract, typer.Argument(metavar="envelope", help="What to print.")],
) -> None:
    """Print the JSON Schema (draft 2020-12) of what producers queue.

    worker schema envelope > envelope.schema.json
    """
    from worker import envelope  # noqa: PLC0415 - so that --help is quick

    typer.echo(json.dumps(envelope.schema(), indent=2))
