# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that --help is quick
"""The commands for producers: send and schema."""

import json
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal
from uuid import uuid4

import typer

from worker.cli.console import escape_for_terminal, print_line, progress_bar
from worker.cli.errors import CommandError, MisuseError
from worker.cli.options import Json, given
from worker.cli.send.message_file import FileSend
from worker.cli.text import print_json

if TYPE_CHECKING:
    from message_worker_client import MessageKey, Outcome, Outcomes

_LOOK_EVERY_S: Final = 0.2

_MessageId = Annotated[
    str | None, typer.Option(help="The channel's own id; the same id again does nothing.")
]
_ReplyTo = Annotated[str | None, typer.Option(help="A configured route for the reply.")]
_File = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        readable=True,
        help="Send each line as a message: .jsonl (envelopes, or parts of them that the other "
        "options complete) or .tsv, whose last column is the text. Sending the same file again "
        "changes nothing; give a file of other messages another name.",
    ),
]
_Users = Annotated[
    int | None, typer.Option(min=1, help="Spread a file's lines over as many invented users.")
]
_Wait = Annotated[
    bool, typer.Option("--wait", help="Wait until every message has its outcome; count them.")
]


def send(
    *,
    channel: Annotated[str | None, typer.Option(help="Such as sms, email, web.")] = None,
    user: Annotated[str | None, typer.Option(help="The person's address on it.")] = None,
    text: Annotated[str | None, typer.Option(help="The text of the message.")] = None,
    message_id: _MessageId = None,
    recipient: Annotated[str, typer.Option(help="Our address that was written to.")] = "",
    thread: Annotated[str, typer.Option(help="The mail thread or chat session.")] = "",
    agent: Annotated[str | None, typer.Option(help="Which agent answers.")] = None,
    sent_at: Annotated[str | None, typer.Option(help="RFC 3339 with an offset.")] = None,
    expires_at: Annotated[str | None, typer.Option(help="Do not answer after this.")] = None,
    not_before: Annotated[str | None, typer.Option(help="Do not answer before this.")] = None,
    reply_to: _ReplyTo = None,
    file: _File = None,
    header: Annotated[
        bool, typer.Option("--header", help="The first line of the .tsv names the fields.")
    ] = False,
    users: _Users = None,
    wait: _Wait = False,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds for --wait.")] = 300.0,
    as_json: Json = False,
) -> None:
    """Queue one message, or a file of them, as any producer does.

    One: worker send --channel sms --user +13125550001 --text Hello --wait

    Many: worker send --file messages.tsv --channel sms --users 200 --wait
    """
    if file is not None and (message_id is not None or (user is not None and users is not None)):
        raise MisuseError(
            "with --file, --message-id cannot be given, and only one of --user and --users"
        )
    flags = given(channel=channel, user=user, text=text, message_id=message_id)
    flags |= given(recipient=recipient, thread=thread, agent=agent, reply_to=reply_to)
    flags |= given(sent_at=sent_at, expires_at=expires_at, not_before=not_before)
    run = None
    if file is not None:
        run = FileSend(file=file, flags=flags, users=users, header=header)
    _send(flags, run, wait_s=timeout_s if wait else None, as_json=as_json)


def _send(
    flags: dict[str, object], run: FileSend | None, *, wait_s: float | None, as_json: bool
) -> None:
    """Send one message, or those of `run`; wait for their outcomes unless `wait_s` is None."""
    from worker.cli.send.producer import check, outcomes_in, producer
    from worker.config.agents_file import load_agents
    from worker.config.settings import settings_for

    settings = settings_for("broker_url", *(() if wait_s is None else ("database_url",)))
    key_of = partial(check, routing=load_agents(settings.agents_file)[0])
    if run is None:
        # A message without an id gets one.
        envelope = {"message_id": str(uuid4()), **flags}
        try:
            keys, envelopes = [key_of(envelope)], iter([envelope])
        except CommandError as error:
            raise MisuseError(f"not sent: {error}") from None
    else:
        keys, envelopes = run.keys, run.envelopes(key_of)
    waits = nullcontext(None) if wait_s is None else outcomes_in(settings.database_url)
    with waits as outcomes:
        with producer(settings.broker_url) as queue:
            queue.send_many(envelopes)
        report = _sent(keys, run, shown=not as_json)
        if outcomes is not None and wait_s is not None:
            _await_outcomes(outcomes, keys, report, timeout_s=wait_s, as_json=as_json)
        elif as_json:
            print_json(report)
    if run is not None and run.refused:
        raise CommandError(f"{run.refused} lines of {run.file.name} were not sent")


def _sent(keys: "list[MessageKey]", run: FileSend | None, *, shown: bool) -> dict[str, object]:
    """Report what was sent; `shown`: print a line of it, too."""
    if run is None:
        line = f"sent, message_id {escape_for_terminal(keys[0].message_id)}"
        report: dict[str, object] = {"sent": 1, "message_id": keys[0].message_id}
    else:
        line = f"{len(keys)} sent, {run.refused} not sent"
        report = {"sent": len(keys), "not_sent": run.refused}
    if shown:
        print_line(line)
    return report


def _await_outcomes(
    outcomes: "Outcomes",
    keys: "list[MessageKey]",
    report: dict[str, object],
    *,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Print what became of them. Raises `CommandError` if some have no outcome in time."""
    from worker.cli.send.producer import OutcomeWatch

    ended: list[Outcome] = []
    deadline = time.monotonic() + timeout_s
    watch = OutcomeWatch(outcomes, keys)
    with progress_bar("outcomes", len(watch.open)) as tick:
        while watch.open:
            new = watch.look()
            tick(len(new))
            ended += [outcome for _, outcome in new]
            if not watch.open or time.monotonic() > deadline:
                break
            time.sleep(_LOOK_EVERY_S)
    counts = Counter(one.outcome for one in ended)
    refused = [one for one in ended if one.message is None]
    reply = ended[0].text if len(keys) == 1 and ended else None
    if as_json:
        waited = {"outcomes": counts, "without_outcome": len(watch.open)}
        waited["refused"] = [asdict(one) for one in refused]
        print_json(report | waited | ({"reply": reply} if len(keys) == 1 else {}))
    else:
        print_line(", ".join(f"{n} {name}" for name, n in counts.items()) or "no outcome yet")
        if reply is not None:
            print_line(f"reply: {escape_for_terminal(reply)}")
    if refused:
        first = refused[0]
        raise CommandError(
            f"{len(refused)} refused: {first.detail} (worker dead-letters show {first.dead_letter})"
        )
    if watch.open:
        raise CommandError(
            f"{len(watch.open)} without an outcome after {timeout_s:g} s. `worker status` "
            "shows whether a worker is alive, and the messages it could not accept: dead letters"
        )


def schema(
    _contract: Annotated[
        Literal["envelope"], typer.Argument(metavar="envelope", help="What to print.")
    ],
) -> None:
    """Print the JSON Schema (draft 2020-12) of what producers queue.

    worker schema envelope > envelope.schema.json
    """
    from message_worker_client.envelope import schema as of_envelope

    typer.echo(json.dumps(of_envelope(), indent=2))
