# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that --help is quick
"""The commands for producers: send and schema."""

import json
import time
from collections import Counter
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from uuid import uuid4

import typer

from worker.cli.console import escape_for_terminal, print_json, print_line, progress_bar
from worker.cli.errors import MISUSED, CommandError
from worker.cli.options import Json, given
from worker.cli.send.message_file import FileSend, Spread

if TYPE_CHECKING:
    from worker.cli.send.producer import OutcomeWatch
    from worker.client import MessageKey, Outcome

_LOOK_EVERY_S: Final = 0.2


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
    from worker.cli.send.producer import check, producer
    from worker.cli.settings import routing_of, settings_for
    from worker.envelope import VERSION

    if file is not None and (message_id is not None or (user is not None and users is not None)):
        raise CommandError(
            "with --file, --message-id cannot be given, and only one of --user and --users",
            exit_code=MISUSED,
        )
    flags = {"version": VERSION} | given(
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
    settings = settings_for("broker_url", "database_url") if wait else settings_for("broker_url")
    key_of = partial(check, routing=routing_of(settings))
    database_url = settings.database_url if wait else None
    finish = partial(_finish, database_url, timeout_s=timeout_s, as_json=as_json)
    if file is None:
        # A message without an id gets one.
        envelope = {"message_id": str(uuid4()), **flags}
        try:
            key = key_of(envelope)
        except CommandError as error:
            raise CommandError(f"not sent: {error}", exit_code=MISUSED) from None
        with producer(settings.broker_url) as queue:
            queue.send_many([envelope])
        line = f"sent, message_id {escape_for_terminal(key.message_id)}"
        finish([key], line, {"sent": 1, "message_id": key.message_id})
        return
    run = FileSend(
        file=file, flags=flags, check=key_of, text_column=text_column, users=users, spread=spread
    )
    with producer(settings.broker_url) as queue:
        queue.send_many(run.envelopes())
    sent, refused = len(run.keys), run.refused
    finish(run.keys, f"{sent} sent, {refused} not sent", {"sent": sent, "not_sent": refused})
    if refused:
        raise CommandError(f"{refused} lines of {file.name} were not sent")


def _finish(
    database_url: str | None,
    keys: "list[MessageKey]",
    line: str,
    report: dict[str, object],
    *,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Print, and wait if there is a `database_url`.

    Raises `CommandError` if some have no outcome in time.
    """
    from worker.cli.send.producer import OutcomeWatch, outcomes_in

    if not as_json:
        print_line(line)
    if database_url is None:
        if as_json:
            print_json(report)
        return
    with outcomes_in(database_url) as outcomes:
        watch = OutcomeWatch(outcomes, keys)
        ended = _wait_for_all(watch, timeout_s=timeout_s)
    counts = Counter(one.outcome for one in ended)
    reply = ended[0].text if len(keys) == 1 and ended else None
    if as_json:
        waited = {"outcomes": counts, "without_outcome": len(watch.open)}
        print_json(report | waited | ({"reply": reply} if len(keys) == 1 else {}))
    else:
        print_line(", ".join(f"{n} {name}" for name, n in counts.items()) or "no outcome yet")
        if reply is not None:
            print_line(f"reply: {escape_for_terminal(reply)}")
    if watch.open:
        raise CommandError(
            f"{len(watch.open)} without an outcome after {timeout_s:g} s. `worker status` "
            "shows whether a worker is alive, and the messages it could not accept: dead letters"
        )


def _wait_for_all(watch: "OutcomeWatch", *, timeout_s: float) -> "list[Outcome]":
    """Wait until nothing is open or the time is over; return the outcomes that came."""
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + timeout_s
    with progress_bar("outcomes", len(watch.open)) as tick:
        while watch.open:
            ended = watch.look()
            tick(len(ended))
            outcomes += [outcome for _, outcome in ended]
            if not watch.open or time.monotonic() > deadline:
                break
            time.sleep(_LOOK_EVERY_S)
    return outcomes


class Contract(StrEnum):
    """The contracts with other programs that have a schema."""

    ENVELOPE = "envelope"


def schema(
    _contract: Annotated[Contract, typer.Argument(metavar="envelope", help="What to print.")],
) -> None:
    """Print the JSON Schema (draft 2020-12) of what producers queue.

    worker schema envelope > envelope.schema.json
    """
    from worker import envelope

    typer.echo(json.dumps(envelope.schema(), indent=2))
