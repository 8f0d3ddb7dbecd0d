# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that --help is quick
"""The commands of people on call: health, pause, resume and dead-letters."""

from typing import Annotated

import typer

from worker.cli.options import OPERATE, Json, User

Numbers = Annotated[list[int], typer.Argument(metavar="ID...", help="As `list` shows them.")]

letters = typer.Typer(
    no_args_is_help=True, help="What no retry could help: list, show, replay, dismiss."
)


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(rich_help_panel=OPERATE)(health)
    app.command(rich_help_panel=OPERATE)(pause)
    app.command(rich_help_panel=OPERATE)(resume)
    app.add_typer(letters, name="dead-letters", rich_help_panel=OPERATE)


def health(
    *,
    max_stalled_s: Annotated[
        float, typer.Option("--max-stalled", help="Seconds of stall that are still healthy.")
    ] = 30.0,
    as_json: Json = False,
) -> None:
    """Exit 0 where the workers of this host take what waits; for container health checks.

    A worker with a fresh heartbeat that takes nothing while entries wait is not healthy; one whose
    Redis is down is: it goes on with what Postgres holds.
    """
    from worker.cli.inspect import health as command

    command.run(max_stalled_s=max_stalled_s, as_json=as_json)


def pause(who: User, *, as_json: Json = False) -> None:
    """Let a person take over: nothing is answered, a reply on its way is withheld.

    What is written meanwhile is added to Telnyx's thread and ends as `human`.
    """
    from worker.cli.operators import dead_letters as operate

    operate.pause(who, resume=False, as_json=as_json)


def resume(who: User, *, as_json: Json = False) -> None:
    """Let the model answer again what comes from now on; the backlog is not answered."""
    from worker.cli.operators import dead_letters as operate

    operate.pause(who, resume=True, as_json=as_json)


@letters.command("list")
def list_letters(
    *,
    reason: Annotated[str | None, typer.Option(help="Only those of this reason.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that somebody has dealt with.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: Json = False,
) -> None:
    """List dead letters, oldest first. Never shows what people wrote."""
    from worker.cli.operators import dead_letters as operate

    operate.list_letters(reason=reason, everything=everything, limit=limit, as_json=as_json)


@letters.command("show")
def show_letter(
    number: Annotated[int, typer.Argument(metavar="ID")],
    *,
    raw: Annotated[
        bool, typer.Option("--raw", help="Also its bytes: what somebody wrote.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one dead letter."""
    from worker.cli.operators import dead_letters as operate

    operate.show_letter(number, raw=raw, as_json=as_json)


@letters.command("replay")
def replay_letters(numbers: Numbers) -> None:
    """Give dead letters another chance, when what was wrong is mended. Twice is once."""
    from worker.cli.operators import dead_letters as operate

    operate.replay(numbers)


@letters.command("dismiss")
def dismiss_letters(numbers: Numbers) -> None:
    """Close dead letters for good; they stay in the table."""
    from worker.cli.operators import dead_letters as operate

    operate.dismiss(numbers)
