# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that --help is quick
"""The commands of people on call, and those about personal data."""

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.options import OPERATE, DryRun, Json, Limit, User

Numbers = Annotated[list[int], typer.Argument(metavar="ID...", help="As `list` shows them.")]

letters = typer.Typer(
    no_args_is_help=True, help="Messages that no retry can help: list, show, replay, dismiss."
)


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    for command in (health, pause, resume, erase, export, retention):
        app.command(rich_help_panel=OPERATE)(command)
    app.add_typer(letters, name="dead-letters", rich_help_panel=OPERATE)


def health(
    *,
    max_stalled_s: Annotated[
        float, typer.Option("--max-stalled", help="Seconds of stall that are still healthy.")
    ] = 30.0,
    as_json: Json = False,
) -> None:
    """Exit 0 if the workers of this host take waiting messages; for container health checks.

    A worker with a fresh heartbeat that takes nothing while entries wait is not healthy. One whose
    Redis is down is: it goes on with the work in Postgres.
    """
    from worker.cli.inspect import health as command

    command.run(max_stalled_s=max_stalled_s, as_json=as_json)


def pause(who: User, *, as_json: Json = False) -> None:
    """Let a person take over: nothing is answered, and a reply on its way is withheld.

    Messages that arrive meanwhile are added to Telnyx's thread and end as `human`.
    """
    from worker.cli.operators import pause as command

    command.run(who, resume=False, as_json=as_json)


def resume(who: User, *, as_json: Json = False) -> None:
    """Let the model answer new messages again; the backlog is not answered."""
    from worker.cli.operators import pause as command

    command.run(who, resume=True, as_json=as_json)


@letters.command("list")
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
    from worker.cli.operators import dead_letters

    dead_letters.list_letters(reason=reason, everything=everything, limit=limit, as_json=as_json)


@letters.command("show")
def show_letter(
    number: Annotated[int, typer.Argument(metavar="ID")],
    *,
    raw: Annotated[
        bool, typer.Option("--raw", help="Also its bytes, which hold personal data.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one dead letter."""
    from worker.cli.operators import dead_letters

    dead_letters.show_letter(number, raw=raw, as_json=as_json)


@letters.command("replay")
def replay_letters(numbers: Numbers) -> None:
    """Replay dead letters once the cause is fixed. Replaying one twice has no further effect."""
    from worker.cli.operators import dead_letters

    dead_letters.replay(numbers)


@letters.command("dismiss")
def dismiss_letters(numbers: Numbers) -> None:
    """Close dead letters for good; they stay in the table."""
    from worker.cli.operators import dead_letters

    dead_letters.dismiss(numbers)


def erase(
    who: User,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait for running work.")
    ] = 30.0,
    as_json: Json = False,
) -> None:
    """Remove everything about one channel user: Postgres, queues, dead letters, Telnyx.

    Cannot be undone. Safe to repeat. If it exits with 1, run it again; the message says what is
    left.
    """
    from worker.cli.operators import erase as command

    command.run(who, yes=yes, dry_run=dry_run, wait_s=wait_s, as_json=as_json)


def export(
    who: User,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A new file, instead of stdout.")
    ] = None,
) -> None:
    """Write everything held about one channel user, as JSON. It includes their messages."""
    from worker.cli.operators import export as command

    command.run(who, out)


def retention(*, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Remove texts older than RETENTION_DAYS. Workers do it each hour.

    The rows stay. It may be interrupted at any time; the next run continues.
    """
    from worker.cli.operators import retention as command

    command.run(dry_run=dry_run, as_json=as_json)
