"""`worker replies`: list, show, approve, edit and reject drafts."""

import getpass
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.console import cell, escape_for_terminal, print_line, print_table
from worker.cli.errors import CommandError
from worker.cli.operators.context import an_operator
from worker.cli.options import Json, Limit
from worker.cli.text import print_json
from worker.domain.ids import ReplyId
from worker.domain.reports.times import span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.handlers.operators.drafts import Decided, Drafts

Number = Annotated[int, typer.Argument(metavar="ID", help="As `list` shows it.")]
By = Annotated[
    str | None, typer.Option(metavar="NAME", help="Who decides. Your name on this machine.")
]

replies = typer.Typer(
    no_args_is_help=True, help="Replies that wait for a person: list, show, approve, edit, reject."
)


@replies.command("list")
def list_drafts(
    *,
    agent: Annotated[str | None, typer.Option(help="Only of this agent.")] = None,
    channel: Annotated[str | None, typer.Option(help="Only of this channel.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List the drafts that wait, oldest first. Shows no texts and no addresses."""
    with an_operator() as operator:
        found = operator.drafts.waiting(agent=agent, channel=channel, limit=limit)
    rows = [asdict(one) for one in found]
    if as_json:
        print_json(rows)
        return
    shown = [row | {"age": span(row["age_s"])} for row in rows]
    columns = ("id", "user", "channel", "agent", "held_for", "age", "expires_at")
    print_table(columns, shown, "no draft waits")


@replies.command("show")
def show_draft(number: Number, *, as_json: Json = False) -> None:
    """Show a draft: its text, the person's messages, and why it waits."""
    with _drafts() as drafts:
        draft = drafts.show(ReplyId(number))
    facts = asdict(draft)
    if as_json:
        print_json(facts)
        return
    del facts["messages"], facts["text"], facts["draft"]
    facts["age"] = span(facts.pop("age_s"))
    for name, value in facts.items():
        if value is not None:
            print_line(f"{name:<12} {cell(value)}")
    for message in draft.messages:
        _print_text("person", message.text or "")
    if draft.draft is not None:
        _print_text("draft", draft.draft)
    _print_text("reply", draft.text)


@replies.command("approve")
def approve_draft(number: Number, *, by: By = None, as_json: Json = False) -> None:
    """Let a draft go out as it is. Refuses if newer messages have come."""
    with _drafts() as drafts:
        _print(drafts.approve(ReplyId(number), by=by or getpass.getuser()), as_json=as_json)


@replies.command("edit")
def edit_draft(
    number: Number,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What goes out in its place.")],
    *,
    by: By = None,
    as_json: Json = False,
) -> None:
    """Let another text go out in the place of a draft. The model is told."""
    with _drafts() as drafts:
        _print(drafts.edit(ReplyId(number), text, by=by or getpass.getuser()), as_json=as_json)


@replies.command("reject")
def reject_draft(number: Number, *, by: By = None, as_json: Json = False) -> None:
    """Let nothing go out. The model is told that the person has not got its reply."""
    with _drafts() as drafts:
        _print(drafts.reject(ReplyId(number), by=by or getpass.getuser()), as_json=as_json)


@contextmanager
def _drafts() -> "Iterator[Drafts]":
    """Build the use case; if somebody has decided before, name them."""
    from worker.handlers.operators.drafts import AlreadyDecidedError  # noqa: PLC0415 - imports much

    with an_operator() as operator:
        try:
            yield operator.drafts
        except AlreadyDecidedError as error:
            at = f"{error.at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
            raise CommandError(f"{error}: by {error.by}, at {at}") from None


def _print(done: "Decided", *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(done))
        return
    then = {"pending": "workers deliver it", "sent": "its channel has no delivery"}
    more = f": {then[done.state]}" if done.state in then else ""
    print_line(f"reply {done.id} is {done.decision}{more}")


def _print_text(label: str, text: str) -> None:
    # Each line has its label: no line of a text may pass for one of ours.
    for line in text.split("\n"):
        print_line(f"{label:<12} {escape_for_terminal(line)}")
