"""`worker messages` and `worker users`: list and search what is recent."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from worker.cli.console import cell, escape_for_terminal, print_line, print_table
from worker.cli.operators.context import an_operator, one_user, users_named
from worker.cli.options import Json, Limit
from worker.cli.text import print_json

_Who = Annotated[
    str | None,
    typer.Argument(metavar="[USER]", help="Only of this user: an id, or CHANNEL:ADDRESS."),
]
_Channel = Annotated[str | None, typer.Option(help="Only of this channel.")]
_Since = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"],
        metavar="TIME",
        help="Only since then, UTC if it has no offset. By default the last 24 hours.",
    ),
]


def messages(
    who: _Who = None,
    *,
    channel: _Channel = None,
    state: Annotated[str | None, typer.Option(help="Only of this state or outcome.")] = None,
    since: _Since = None,
    texts: Annotated[bool, typer.Option("--texts", help="Also the texts of messages.")] = False,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List messages, newest first; those of one user from all times. Shows no addresses.

    worker messages sms:+13125550001 --texts
    """
    with an_operator() as operator:
        user_id = None if who is None else one_user(operator, who)
        found = operator.recent.messages(
            user_id, channel=channel, state=state, since=_utc(since), limit=limit, texts=texts
        )
    rows = [one._asdict() for one in found]
    spoken = [row.pop("text") for row in rows]
    if as_json:
        more = [{"text": text} if texts else {} for text in spoken]
        print_json([row | one for row, one in zip(rows, more, strict=True)])
    elif texts and rows:
        for row, text in zip(rows, spoken, strict=True):
            print_line("  ".join(cell(value) for value in row.values() if value is not None))
            for line in (text or "").split("\n"):
                print_line(f"    {escape_for_terminal(line)}")
    else:
        columns = ("id", "user", "channel", "agent", "state", "outcome", "accepted_at", "turn")
        print_table(columns, rows, "no messages")


def users(
    who: _Who = None,
    *,
    channel: _Channel = None,
    state: Annotated[
        str | None, typer.Option(help="Only of this state: idle, waiting, paused or diverged.")
    ] = None,
    since: _Since = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List the channel users who wrote last, newest first. Shows no addresses.

    With USER all that fit, whenever they wrote; else those of the newest 10 000 messages.
    """
    with an_operator() as operator:
        ids = None if who is None else users_named(operator, who)
        found = operator.recent.users(
            ids, channel=channel, state=state, since=_utc(since), limit=limit
        )
    rows = [one._asdict() for one in found]
    columns = ("id", "channel", "agent", "state", "last_message", "last_at")
    print_table(columns, rows, "no channel users", as_json=as_json)


def _utc(at: datetime | None) -> datetime | None:
    return at if at is None or at.tzinfo else at.replace(tzinfo=UTC)
