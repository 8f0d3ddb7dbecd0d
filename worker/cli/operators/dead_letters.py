"""`worker dead-letters`: list, show, replay, dismiss."""

from datetime import UTC, datetime

from rich.table import Table

from worker.cli.console import escape_for_terminal, out, print_json, print_line
from worker.cli.errors import CommandError
from worker.cli.operators.context import an_operator
from worker.domain.errors import WorkerError
from worker.domain.ids import DeadLetterId
from worker.store.dead_letters import DeadLetter


def list_letters(*, reason: str | None, everything: bool, limit: int, as_json: bool) -> None:
    """List dead letters, oldest first."""
    with an_operator() as operator:
        letters = operator.dead_letters.find(reason=reason, resolved=everything, limit=limit)
    if as_json:
        print_json([_facts(letter) for letter in letters])
        return
    table = Table("id", "kind", "reason", "age", "channel user", "detail", "resolution")
    for letter in letters:
        table.add_row(
            str(letter.id),
            letter.kind,
            letter.reason,
            _age(letter),
            str(letter.user_id or ""),
            escape_for_terminal(letter.detail),
            letter.resolution or "",
        )
    out.print(table if letters else "no dead letters")


def show_letter(number: int, *, raw: bool, as_json: bool) -> None:
    """Show one dead letter; with its bytes, which hold personal data, only on request."""
    with an_operator() as operator:
        letter = operator.dead_letters.get(DeadLetterId(number))
    if letter is None:
        raise CommandError(f"there is no dead letter {number}")
    facts = _facts(letter)
    if raw and letter.raw is not None:
        facts["raw"] = letter.raw.decode("utf-8", "backslashreplace")
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        print_line(f"{name:<12} {escape_for_terminal(str(value))}")
    if letter.raw is not None and not raw:
        print_line(f"{'raw':<12} {len(letter.raw)} bytes, shown by --raw")


def replay(numbers: list[int]) -> None:
    """Replay dead letters one by one; exit code 1 if one could not be replayed."""
    failed = 0
    with an_operator() as operator:
        for number in numbers:
            try:
                operator.replay(DeadLetterId(number))
            except WorkerError as error:
                failed += 1
                print_line(f"{number}: {escape_for_terminal(str(error))}")
            else:
                print_line(f"{number}: replayed")
    if failed:
        raise CommandError(f"{failed} of {len(numbers)} were not replayed")


def dismiss(numbers: list[int]) -> None:
    """Close dead letters for good; they stay in the table."""
    with an_operator() as operator:
        missed = [n for n in numbers if not operator.dead_letters.dismiss(DeadLetterId(n))]
    if missed:
        listed = ", ".join(str(number) for number in missed)
        raise CommandError(f"not open any more, or never there: {listed}")
    print_line(f"dismissed {len(numbers)}")


def _facts(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "kind": letter.kind,
        "reason": letter.reason,
        "detail": letter.detail,
        "queue": letter.queue,
        "created_at": letter.created_at.isoformat(),
        "user": letter.user_id,
        "message": letter.message,
        "delivery": letter.delivery,
        "resolution": letter.resolution,
    }


def _age(letter: DeadLetter) -> str:
    seconds = int((datetime.now(UTC) - letter.created_at).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"
