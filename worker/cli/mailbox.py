# ruff: noqa: PLC0415 - heavy imports wait until the command runs, so that --help is quick
"""`worker mailbox`: the process that reads a mailbox."""

import signal
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated

import typer

from worker.cli.errors import MisuseError, needs_extra


def mailbox(
    *,
    every: Annotated[
        bool, typer.Option("--all", help="At the first start, answer the mails that are there.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            metavar="DATE",
            help="At the first start, answer those that arrived from this day on (UTC).",
        ),
    ] = None,
) -> None:
    """Read the mailbox of IMAP_URL: each new mail becomes a message. SIGTERM stops it.

    At the first start, only mails that arrive from then on are answered. Afterwards it goes on
    where it was, and both options have no effect.
    """
    if every and since is not None:
        raise MisuseError("--all and --since exclude each other")
    with needs_extra("mailbox"):
        from worker.bootstrap.mailbox import build_mailbox
    from worker.config.settings import settings_for
    from worker.observability.logs import configure_logging, log
    from worker.queue.lifecycle import on_sighup

    settings = settings_for("database_url", "namespace")
    configure_logging(settings.log_level)
    first = datetime.fromtimestamp(0, UTC) if every else since and since.replace(tzinfo=UTC)
    with closing(build_mailbox(settings, since=first)) as built:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: built.reader.stop.set())
        on_sighup(built.reload_agents)
        built.start_telemetry()
        log.info("mailbox.started")
        built.reader.run()
    log.info("mailbox.stopped")
