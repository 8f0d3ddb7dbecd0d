# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that --help is quick
"""The commands about what is held of people: erase, export, retention."""

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.options import OPERATE, DryRun, Json, User


def register(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(rich_help_panel=OPERATE)(erase)
    app.command(rich_help_panel=OPERATE)(export)
    app.command(rich_help_panel=OPERATE)(retention)


def erase(
    who: User,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: DryRun = False,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait for what runs.")
    ] = 30.0,
    as_json: Json = False,
) -> None:
    """Remove everything about one channel user: Postgres, queues, dead letters, Telnyx.

    Cannot be undone. Safe to repeat, and to be repeated where it exits 1: it says what is left.
    """
    from worker.cli.operators import erase as command

    how = command.HowToErase(yes=yes, dry_run=dry_run, wait_s=wait_s, as_json=as_json)
    command.run(who, how)


def export(
    who: User,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A new file, instead of stdout.")
    ] = None,
) -> None:
    """Write everything that is held about one channel user, as JSON. It shows what he wrote."""
    from worker.cli.operators import export as command

    command.run(who, out)


def retention(*, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Take out what people wrote more than RETENTION_DAYS ago. Workers do it each hour.

    Texts go, rows stay. Killed half way, the next one goes on.
    """
    from worker.cli.operators import retention as command

    command.run(dry_run=dry_run, as_json=as_json)
