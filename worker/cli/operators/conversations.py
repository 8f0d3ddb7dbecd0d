"""The commands about conversations: list, show, reset and adopt them; and `worker say`."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID, uuid4

import typer

from worker.cli.console import cell, escape_for_terminal, print_line, print_table
from worker.cli.errors import FAILED, CommandError, MisuseError
from worker.cli.operators.context import NobodyError, an_operator, one_user, until_free
from worker.cli.options import Json, Limit, User
from worker.cli.text import print_json, warn
from worker.domain.errors import DatabaseAwayError, NotFoundError
from worker.domain.ids import ChannelUserId, TelnyxConversationId

if TYPE_CHECKING:
    from worker.bootstrap.operator import Operator
    from worker.handlers.operators.compare import ComparedRow
    from worker.store.reports.conversations import ConversationSummary

Agent = Annotated[str | None, typer.Option(help="The agent of the conversation.")]
_OF_TURN: Final = ("kind", "state", "landed", "calls", "source", "delivery")

conversations = typer.Typer(
    no_args_is_help=True,
    help="Telnyx conversations of channel users: list, show, reset, adopt, find unknown ones.",
)


@conversations.command("list")
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
    with an_operator() as operator:
        user_id = None if who is None else one_user(operator, who)
        found = operator.ledger.find(
            user_id=user_id, channel=channel, agent=agent, closed=closed, limit=limit
        )
    rows = [asdict(one) for one in found]
    columns = ("id", "user", "channel", "agent", "telnyx_id", "opened_at", "closed_at", "why")
    print_table((*columns, "turns"), rows, "no conversations", as_json=as_json)


@conversations.command("show")
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
    """Show Telnyx's thread beside our turns: rows that match, and rows that one side lacks.

    With --texts it reads like a chat, with a note where the two sides differ.
    """
    with an_operator() as operator:
        mapping = _mapping(operator, who, agent)
        try:
            rows = [_row(row, texts=texts) for row in operator.compare(mapping)]
        except NotFoundError:
            raise CommandError(
                f"Telnyx has no conversation {mapping.telnyx_id} any more: reset it"
            ) from None
    if as_json:
        print_json({"conversation": asdict(mapping), "rows": rows})
        return
    for name, value in asdict(mapping).items():
        print_line(f"{name:<19} {cell(value)}")
    if texts:
        for row in rows:
            _print_spoken(row)
        return
    columns = ("verdict", "role", "chars", "turn", "state", "landed", "calls", "source", "delivery")
    print_table(columns, rows, "neither side has anything")


@conversations.command("reset")
def reset_conversation(who: User, *, agent: Agent = None, as_json: Json = False) -> None:
    """Close the conversation; the next turn starts a new one. Ends a divergence.

    An open turn continues with the new conversation. Refuses while a worker is busy with the
    channel user, or while Telnyx may still execute a call.
    """
    with an_operator() as operator:
        done = operator.reset(one_user(operator, who), agent)
    if as_json:
        print_json(asdict(done))
    elif done.closed is None:
        print_line("no conversation is open: the next turn starts a new one")
    else:
        print_line(f"conversation {done.closed} is closed: the next turn starts a new one")
        if done.open_turn is not None:
            print_line(f"turn {done.open_turn} was open, and continues with that")


@conversations.command("adopt")
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
    with an_operator() as operator:
        user_id = one_user(operator, who)
        try:
            done = operator.adopt(user_id, TelnyxConversationId(telnyx_id), agent, force=force)
        except NotFoundError:
            raise CommandError(f"Telnyx has no conversation {telnyx_id}") from None
    if as_json:
        print_json(asdict(done))
        return
    print_line(
        f"channel user {user_id} continues with {telnyx_id}, as conversation {done.conversation}"
    )
    print_line(f"what users wrote there before: {done.base_user_messages} messages")
    if done.open_turn is not None:
        print_line(f"turn {done.open_turn} was open, and continues there")
    if not done.telnyx_told:
        print_line(
            "Telnyx did not take our tag; the mapping holds, the same command tries it again"
        )


@conversations.command("unknown")
def unknown_conversations(
    *,
    ignore: Annotated[
        bool,
        typer.Option("--ignore", help="Ask no more: nobody continues with them."),
    ] = False,
    as_json: Json = False,
) -> None:
    """List the conversations of this installation at Telnyx that the database does not know.

    While there are any, Telnyx is asked for each new person whether one is theirs, and this exits
    with 1. Those who write again go on there. With --ignore they count as known: new people are
    not looked for any more, and a person whose conversation it was starts a new one.
    """
    with an_operator() as operator:
        found = operator.ask_telnyx.look_now(ignore=ignore)
    if found is None:
        raise CommandError("not known now: see the line `conversations` of `worker doctor`")
    if as_json:
        print_json(found)
    else:
        print_table(("telnyx_id",), [{"telnyx_id": one} for one in found], "none")
    if found:
        raise typer.Exit(FAILED)


def say(
    who: User,
    text: Annotated[str, typer.Argument(metavar="TEXT")],
    *,
    agent: Agent = None,
    recipient: Annotated[
        str | None, typer.Option(help="Our address to write from, if there are several.")
    ] = None,
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

    Workers deliver the message, and add it to Telnyx's thread before they answer anything else. A
    person who has never written has no thread, and needs `say_first = true` of the channel.
    """
    # Always a key: if the outcome of the COMMIT is unknown, the command can be repeated with it.
    key = key or uuid4()
    with an_operator() as operator:
        user_id = _spoken_to(operator, who, recipient)
        say_it = partial(operator.say, user_id, text, agent, key=key, deliver_only=deliver_only)
        try:
            said = until_free(say_it, wait_s=wait_s)
        except DatabaseAwayError:
            warn(f"the same command with --key {key} is safe, whether it was said or not")
            raise
    if as_json:
        print_json({"user": user_id, "key": key, **asdict(said)})
        return
    print_line(
        f"{'had been said' if said.again else 'said'}: turn {said.turn}, delivery {said.delivery}"
    )
    if not said.in_thread:
        print_line("it is only delivered, not added to a thread at Telnyx")


def _spoken_to(operator: "Operator", who: str, recipient: str | None) -> ChannelUserId:
    channel, colon, address = who.partition(":")
    try:
        return one_user(operator, who, recipient=recipient)
    except NobodyError:
        if not colon:
            raise
    from message_worker_client.envelope import EnvelopeError  # noqa: PLC0415 - brings pydantic

    try:
        operator.say.meet(channel=channel, address=address, recipient=recipient or "")
    except EnvelopeError as error:
        raise MisuseError(str(error)) from None
    # An address that was lower-cased is found in the form that it has now.
    return one_user(operator, who, recipient=recipient)


def _mapping(operator: "Operator", who: str, agent: str | None) -> "ConversationSummary":
    """Return the open mapping that `who` names, else the newest closed one."""
    try:
        telnyx_id = TelnyxConversationId(UUID(who))
    except ValueError:
        user_id = one_user(operator, who)
    else:
        mapping = operator.ledger.get(telnyx_id)
        if mapping is None:
            raise CommandError("no channel user has this conversation")
        return mapping
    found = operator.ledger.find(user_id=user_id, agent=agent) or operator.ledger.find(
        user_id=user_id, agent=agent, closed=True, limit=1
    )
    if not found:
        raise CommandError("there is no such conversation")
    if len(found) > 1:
        names = ", ".join(one.agent for one in found)
        raise MisuseError(f"several are open: give --agent, one of {names}")
    return found[0]


def _print_spoken(row: Mapping[str, object]) -> None:
    """Print one message as a chat shows it; further lines of its text stay below the first."""
    verdict = row["verdict"]
    who = "staff" if verdict == "said" else row["role"] or "user"
    turn = f", turn {row['turn']} {row['state']}" if row["turn"] else ""
    note = "" if verdict in {"matches", "answer", "said"} else f"  [dim]({verdict}{turn})[/]"
    first, *more = str(row["text"]).split("\n")
    print_line(f"{f'{who}>':<10} {escape_for_terminal(first)}{note}")
    for line in more:
        print_line(f"{'':<10} {escape_for_terminal(line)}")


def _row(row: "ComparedRow", *, texts: bool) -> dict[str, object]:
    message, turn = row.message, row.turn
    text = message.text if message else turn.input_text if turn else ""
    facts: dict[str, object] = {"verdict": row.verdict, "role": message and message.role}
    facts |= {"chars": len(text), "turn": turn and turn.id}
    facts |= {name: getattr(turn, name, [] if name == "calls" else None) for name in _OF_TURN}
    return facts | ({"text": text} if texts else {})
