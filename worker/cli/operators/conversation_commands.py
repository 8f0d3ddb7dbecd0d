# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that --help is quick
"""The commands about conversations: list, show, reset and adopt them; say; usage."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import typer

from worker.cli.options import OPERATE, Json, Limit, User

Agent = Annotated[str | None, typer.Option(help="The agent of the conversation.")]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DATE")]

threads = typer.Typer(
    no_args_is_help=True, help="Telnyx conversations of channel users: list, show, reset, adopt."
)


class By(StrEnum):
    """The subjects by which usage is summed."""

    AGENT = "agent"
    CHANNEL = "channel"
    DAY = "day"
    MODEL = "model"


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(threads, name="conversations", rich_help_panel=OPERATE)
    app.command(rich_help_panel=OPERATE)(say)
    app.command(rich_help_panel=OPERATE)(usage)


@threads.command("list")
def list_conversations(
    who: Annotated[
        str | None, typer.Argument(metavar="USER", help="Only those of this channel user.")
    ] = None,
    *,
    channel: Annotated[str | None, typer.Option(help="Only those of this channel.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only those of this agent.")] = None,
    closed: Annotated[bool, typer.Option("--all/--open", help="Also closed ones.")] = False,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List the Telnyx conversation of each channel user, newest first. Shows no addresses."""
    from worker.cli.operators import conversations

    conversations.list_all(
        who, channel=channel, agent=agent, closed=closed, limit=limit, as_json=as_json
    )


@threads.command("show")
def show_conversation(
    who: Annotated[
        str,
        typer.Argument(metavar="USER|ID", help="A channel user, or Telnyx's id of a conversation."),
    ],
    *,
    agent: Agent = None,
    texts: Annotated[bool, typer.Option("--texts", help="Also the texts of messages.")] = False,
    as_json: Json = False,
) -> None:
    """Show Telnyx's thread beside our turns: rows that match, and rows that one side lacks."""
    from worker.cli.operators import conversations

    conversations.show(who, agent=agent, texts=texts, as_json=as_json)


@threads.command("reset")
def reset_conversation(who: User, *, agent: Agent = None, as_json: Json = False) -> None:
    """Close the conversation; the next turn starts a new one. Ends a divergence.

    An open turn continues with the new conversation. Refuses while a worker is busy with the
    channel user, or while Telnyx may still execute a call.
    """
    from worker.cli.operators import conversations

    conversations.reset(who, agent=agent, as_json=as_json)


@threads.command("adopt")
def adopt_conversation(
    who: User,
    telnyx_id: Annotated[UUID, typer.Argument(metavar="TELNYX-ID")],
    *,
    agent: Agent = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Adopt it even if it is tagged for another channel user."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Continue with this Telnyx conversation as it is now. Ends a divergence.

    With the id of the open conversation its messages are counted anew, so that messages written
    there by others no longer count as a divergence.
    """
    from worker.cli.operators import conversations

    conversations.adopt(who, telnyx_id, agent=agent, force=force, as_json=as_json)


def say(
    who: User,
    text: Annotated[str, typer.Argument(metavar="TEXT")],
    *,
    agent: Agent = None,
    deliver_only: Annotated[
        bool, typer.Option("--deliver-only", help="Do not add it to Telnyx's thread.")
    ] = False,
    key: Annotated[
        UUID | None, typer.Option(help="A UUID; a second message with the same one is not sent.")
    ] = None,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait for an open turn.")
    ] = 10.0,
    as_json: Json = False,
) -> None:
    """Write to a channel user yourself, also while they are paused.

    Workers deliver the message, and add it to Telnyx's thread before they answer anything else.
    """
    from worker.cli.operators import conversations

    conversations.say_to(
        who,
        text,
        agent=agent,
        deliver_only=deliver_only,
        key=key,
        wait_s=wait_s,
        as_json=as_json,
    )


def usage(
    *,
    by: Annotated[
        list[By] | None, typer.Option("--by", help="Sum by this; may be repeated.")
    ] = None,
    since: Day = None,
    until: Day = None,
    as_json: Json = False,
) -> None:
    """Show calls, turns and tokens, by agent, channel and day of the last 30 days. Days are UTC."""
    from worker.cli.operators import usage as command

    command.run(
        [one.value for one in by or (By.AGENT, By.CHANNEL, By.DAY)],
        since=since.date() if since else None,
        until=until.date() if until else None,
        as_json=as_json,
    )
