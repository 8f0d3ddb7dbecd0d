"""`worker dead-letters`: list, show, replay, dismiss."""

from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.console import escape_for_terminal, print_line, print_table
from worker.cli.errors import CommandError, MisuseError
from worker.cli.operators.context import an_operator
from worker.cli.options import Json, Limit
from worker.cli.text import print_json
from worker.domain.errors import WorkerError
from worker.domain.ids import DeadLetterId
from worker.domain.reports.times import span
from worker.domain.states import Resolution

if TYPE_CHECKING:
    from worker.store.dead_letters import DeadLetter

Numbers = Annotated[list[int], typer.Argument(metavar="ID...", help="As `list` shows them.")]

dead_letters = typer.Typer(
    no_args_is_help=True, help="Messages that no retry can help: list, show, replay, dismiss."
)


@dead_letters.command("list")
def list_letters(
    *,
    reason: Annotated[str | None, typer.Option(help="Only those with this reason.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that are replayed or dismissed.")
    ] = False,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List dead letters, oldest first. Never shows what people wrote."""
    with an_operator() as operator:
        found = operator.dead_letters.find(reason=reason, resolved=everything, limit=limit)
    if as_json:
        print_json([_facts(letter) for letter in found])
        return
    now = datetime.now(UTC)
    rows = [
        asdict(one)
        | {"channel_user": one.user, "age": span((now - one.created_at).total_seconds())}
        for one in found
    ]
    columns = ("id", "kind", "reason", "age", "channel_user", "detail", "resolution")
    print_table(columns, rows, "no dead letters")


@dead_letters.command("show")
def show_letter(
    number: Annotated[int, typer.Argument(metavar="ID")],
    *,
    raw: Annotated[
        bool, typer.Option("--raw", help="Also its bytes, which hold personal data.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one dead letter."""
    with an_operator() as operator:
        letter = operator.dead_letters.get(DeadLetterId(number))
    if letter is None:
        raise CommandError(f"there is no dead letter {number}")
    facts = _facts(letter)
    if raw and letter.raw is not None:
        facts["raw"] = letter.raw.decode("utf-8", "backslashreplace")
    if as_json:
        print_json(facts | {"sender": letter.sender})
        return
    # The headers of its sender are facts like the others.
    for name, value in (facts | (letter.sender or {})).items():
        print_line(f"{name:<12} {escape_for_terminal(str(value))}")
    if letter.raw is not None and not raw:
        print_line(f"{'raw':<12} {len(letter.raw)} bytes, shown by --raw")


@dead_letters.command("replay")
def replay_letters(
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="[ID...]", help="As `list` shows them.")
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All that are open.")] = False,
    reason: Annotated[str | None, typer.Option(help="Of --all: only this reason.")] = None,
    agent: Annotated[
        str | None, typer.Option(help="Answer as this agent: the one they name is not known.")
    ] = None,
    reply_to: Annotated[
        str | None, typer.Option(help="Reply by this route: the one they name is not known.")
    ] = None,
) -> None:
    """Replay dead letters once the cause is fixed. Replaying one twice has no further effect.

    worker dead-letters replay --all --reason unknown_agent --agent support
    """
    if everything == bool(numbers) or (reason and not everything):
        raise MisuseError("give the IDs, or --all with or without a --reason")
    names = {"agent": agent, "reply_to": reply_to}
    given = {name: value for name, value in names.items() if value is not None}
    failed = 0
    with an_operator() as operator:
        chosen = numbers or operator.dead_letters.unresolved(reason)
        for number in chosen:
            try:
                operator.replay(DeadLetterId(number), **given)
            except WorkerError as error:
                failed += 1
                print_line(f"{number}: {escape_for_terminal(str(error))}")
            else:
                print_line(f"{number}: replayed")
    if failed:
        raise CommandError(f"{failed} of {len(chosen)} were not replayed")
    if not chosen:
        print_line("no dead letters")


@dead_letters.command("dismiss")
def dismiss_letters(numbers: Numbers) -> None:
    """Close dead letters for good; they stay in the table."""
    with an_operator() as operator:
        close = partial(operator.dead_letters.resolve, resolution=Resolution.DISMISSED)
        missed = [n for n in numbers if not close(DeadLetterId(n))]
    if missed:
        listed = ", ".join(str(number) for number in missed)
        raise CommandError(f"not open any more, or never there: {listed}")
    print_line(f"dismissed {len(numbers)}")


def _facts(letter: "DeadLetter") -> dict[str, object]:
    facts = asdict(letter)
    # The sender's host is for who asks about one of them.
    del facts["raw"], facts["sender"]
    return facts
