"""`worker conversations`: list, show, reset, adopt; and `worker say`."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from uuid import UUID, uuid4

from rich.table import Table

from worker.bootstrap.operator import Operator
from worker.cli.console import escape_for_terminal, out, print_json, print_line, warn
from worker.cli.errors import MISUSED, CommandError
from worker.cli.operators.context import an_operator, one_user, until_free
from worker.domain.errors import DatabaseAwayError, NotFoundError, RetryableError
from worker.domain.ids import TelnyxConversationId
from worker.handlers.operators.compare import ComparedRow
from worker.store.reports.conversations import ConversationSummary, ConversationTurn


@contextmanager
def _at_work() -> Iterator[Operator]:
    with an_operator() as operator:
        try:
            yield operator
        except DatabaseAwayError:
            raise
        except (
            RetryableError
        ) as error:  # the user is busy, or Telnyx failed; the text says what to do
            raise CommandError(str(error)) from None


def list_all(
    who: str | None,
    *,
    channel: str | None,
    agent: str | None,
    closed: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List mappings, the newest first."""
    with _at_work() as operator:
        user_id = None if who is None else one_user(operator, who)
        found = operator.ledger.find(
            user_id=user_id, channel=channel, agent=agent, closed=closed, limit=limit
        )
    if as_json:
        print_json([_facts(one) for one in found])
        return
    names = ("id", "user", "channel", "agent", "telnyx_id", "opened_at", "closed_at", "why")
    table = Table(*(name.removesuffix("_at").replace("_", " ") for name in (*names, "turns")))
    for one in found:
        facts = _facts(one)
        table.add_row(*(escape_for_terminal(_brief(facts[name])) for name in (*names, "turns")))
    out.print(table if found else "no conversations")


def show(who: str, *, agent: str | None, texts: bool, as_json: bool) -> None:
    """Show one thread beside our turns; with texts, which are personal data, only on request."""
    with _at_work() as operator:
        mapping = _mapping(operator, who, agent)
        try:
            rows = operator.compare(mapping)
        except NotFoundError:
            raise CommandError(
                f"Telnyx has no conversation {mapping.telnyx_id} any more: reset it"
            ) from None
    listed = [_row(row, texts=texts) for row in rows]
    if as_json:
        print_json({"conversation": _facts(mapping), "rows": listed})
        return
    for name, value in _facts(mapping).items():
        print_line(f"{name:<19} {escape_for_terminal(_brief(value))}")
    columns = ["verdict", "role", "chars", "turn", "state", "landed", "calls", "source", "delivery"]
    columns += ["text"] if texts else []
    table = Table(*columns)
    for row in listed:
        table.add_row(*(escape_for_terminal(_brief(row[name])) for name in columns))
    out.print(table if rows else "neither side has anything")


def reset(who: str, *, agent: str | None, as_json: bool) -> None:
    """Close the open conversation of one channel user."""
    with _at_work() as operator:
        user_id = one_user(operator, who)
        done = operator.reset(user_id, agent)
    if as_json:
        print_json(
            {"user": user_id, "agent": done.agent, "closed": done.closed, "open_turn": done.turn}
        )
    elif done.closed is None:
        print_line("no conversation is open: the next turn starts a new one")
    else:
        print_line(f"conversation {done.closed} is closed: the next turn starts a new one")
        if done.turn is not None:
            print_line(f"turn {done.turn} was open, and continues with that")


def adopt(who: str, telnyx_id: UUID, *, agent: str | None, force: bool, as_json: bool) -> None:
    """Map one channel user to a Telnyx conversation."""
    with _at_work() as operator:
        user_id = one_user(operator, who)
        try:
            done = operator.adopt(user_id, TelnyxConversationId(telnyx_id), agent, force=force)
        except NotFoundError:
            raise CommandError(f"Telnyx has no conversation {telnyx_id}") from None
    if as_json:
        facts = {"user": user_id, "agent": done.agent, "conversation": done.conversation}
        facts |= {"base_user_messages": done.base_user_messages}
        print_json({**facts, "open_turn": done.turn, "telnyx_told": done.tagged})
        return
    print_line(
        f"channel user {user_id} continues with {telnyx_id}, as conversation {done.conversation}"
    )
    print_line(f"what users wrote there before: {done.base_user_messages} messages")
    if done.turn is not None:
        print_line(f"turn {done.turn} was open, and continues there")
    if not done.tagged:
        print_line(
            "Telnyx did not take our tag; the mapping holds, the same command tries it again"
        )


def say_to(
    who: str,
    text: str,
    *,
    agent: str | None,
    deliver_only: bool,
    key: UUID | None,
    wait_s: float,
    as_json: bool,
) -> None:
    """Send a message of our staff; exit code 0 = it is committed, and is delivered like a reply."""
    # Always a key: if the outcome of the COMMIT is unknown, the command can be repeated with it.
    key = key or uuid4()
    with _at_work() as operator:
        user_id = one_user(operator, who)
        say_it = partial(operator.say, user_id, text, agent, key=key, deliver_only=deliver_only)
        try:
            said = until_free(say_it, wait_s=wait_s)
        except DatabaseAwayError:
            warn(f"the same command with --key {key} is safe, whether it was said or not")
            raise
    if as_json:
        facts = {"user": user_id, "turn": said.turn, "delivery": said.delivery, "key": str(key)}
        print_json({**facts, "in_thread": said.in_thread, "again": said.again})
        return
    print_line(
        f"{'had been said' if said.again else 'said'}: turn {said.turn}, delivery {said.delivery}"
    )
    if not said.in_thread:
        print_line("it is only delivered, not added to a thread at Telnyx")


def _mapping(operator: Operator, who: str, agent: str | None) -> ConversationSummary:
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
        raise CommandError(f"several are open: give --agent, one of {names}", exit_code=MISUSED)
    return found[0]


def _facts(one: ConversationSummary) -> dict[str, object]:
    return {
        "id": one.id,
        "user": one.user_id,
        "channel": one.channel,
        "agent": one.agent,
        "telnyx_id": one.telnyx_id,
        "opened_at": one.opened_at,
        "closed_at": one.closed_at,
        "why": one.close_reason,
        "base_user_messages": one.base_user_messages,
        "turns": one.turns,
    }


def _row(row: ComparedRow, *, texts: bool) -> dict[str, object]:
    message, turn = row.message, row.turn
    text = message.text if message else turn.input_text if turn else ""
    facts: dict[str, object] = {
        "verdict": row.verdict,
        "role": message.role if message else None,
        "chars": len(text),
        **_turn_facts(turn),
    }
    return facts | ({"text": text} if texts else {})


def _turn_facts(turn: ConversationTurn | None) -> dict[str, object]:
    return {
        "turn": turn and turn.id,
        "kind": turn and turn.kind,
        "state": turn and turn.state,
        "landed": turn and turn.landed,
        "calls": list(turn.calls) if turn else [],
        "source": turn and turn.source,
        "delivery": turn and turn.delivery,
    }


def _brief(value: object) -> str:
    """Return the text of a table cell."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return value.strftime("%Y-%m-%d %H:%M:%SZ") if isinstance(value, datetime) else str(value)
