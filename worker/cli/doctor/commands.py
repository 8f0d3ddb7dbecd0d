# ruff: noqa: PLC0415 - heavy imports wait until the command runs, so that --help is quick
"""The command `worker doctor`."""

import gc
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from worker.cli.console import print_line
from worker.cli.errors import CommandError
from worker.cli.options import Json
from worker.cli.text import print_json
from worker.domain.reports.finding import Level


def doctor(
    *,
    no_telnyx_writes: Annotated[
        bool,
        typer.Option(
            "--no-telnyx-writes",
            help="Play no turns on a conversation of its own at Telnyx, which cost some tokens.",
        ),
    ] = False,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Look for rows whose parent is gone; reads whole tables."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check settings, Postgres, Redis, Celery, Flower and Telnyx; name the fix of each fault.

    Works with settings missing or broken, and with everything down. Exits 1 if it finds a fault.
    """
    # A thousand modules are no garbage, and to look for some among them is a tenth of the command.
    gc.disable()
    # Where OpenTelemetry's SDK is installed, redis-py loads it to count: another fifteenth.
    sys.modules.setdefault("opentelemetry.sdk.metrics", None)  # type: ignore[arg-type]
    from worker.cli.doctor.doctor import diagnose, line_of
    from worker.cli.doctor.examine import Setup

    gc.freeze()
    gc.enable()
    results = []
    for one in diagnose(Setup.read(), telnyx_writes=not no_telnyx_writes, audit=audit):
        results.append(one)
        if not as_json:
            print_line(line_of(one))
    counts = {level: sum(one.level is level for one in results) for level in Level}
    if as_json:
        print_json({"healthy": not counts[Level.FAULT], "checks": [asdict(one) for one in results]})
    else:
        print_line(", ".join(f"{level}: {count}" for level, count in counts.items()))
    if counts[Level.FAULT]:
        raise CommandError(f"{counts[Level.FAULT]} of {len(results)} checks found a fault")
