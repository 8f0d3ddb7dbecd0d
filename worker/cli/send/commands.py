"""The command `worker send`."""

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.errors import MISUSED, CommandError
from worker.cli.options import SEND, Json
from worker.cli.send.message_file import Spread


def register(app: typer.Typer) -> None:
    """Add it to the command line."""
    app.command(rich_help_panel=SEND)(send)


def send(
    *,
    channel: Annotated[str | None, typer.Option(help="Such as sms, email, web.")] = None,
    user: Annotated[str | None, typer.Option(help="The person's address on it.")] = None,
    text: Annotated[str | None, typer.Option(help="What the person writes.")] = None,
    message_id: Annotated[
        str | None, typer.Option(help="The channel's id of it; the same id again does nothing.")
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
            help="Send a line a message: .jsonl (envelopes, or parts of them that the other "
            "options complete) or .tsv. Sending the same file again changes nothing.",
        ),
    ] = None,
    text_column: Annotated[
        int | None, typer.Option(help="Of a .tsv, from 1; the last one if not given.")
    ] = None,
    users: Annotated[
        int | None, typer.Option(min=1, help="Spread a file's lines over so many invented users.")
    ] = None,
    spread: Annotated[
        Spread, typer.Option(help="Each line the next user, or blocks of 15 lines each.")
    ] = Spread.ROUND_ROBIN,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until every message has its outcome; count them.")
    ] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Of --wait, in seconds.")] = 300.0,
    as_json: Json = False,
) -> None:
    """Queue one message, or a file of them, as any producer would.

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
    after = command.After(wait=wait, timeout_s=timeout_s, as_json=as_json)
    if file is None:
        command.send_one(command.envelope_of(flags), after)
        return
    if message_id is not None or (user is not None and users is not None):
        raise CommandError(
            "with --file, --message-id cannot be given, and only one of --user and --users",
            exit_code=MISUSED,
        )
    order = command.FileOrder(file=file, text_column=text_column, users=users, spread=spread)
    command.send_file(order, flags, after)


def given(**fields: str | None) -> dict[str, object]:
    """Keep what was given: an envelope has no fields that nobody set."""
    return {name: value for name, value in fields.items() if value}
