# ruff: noqa: PLC0415 - heavy imports wait until the command runs, so that --help is quick
"""`worker mail-in`: a mail on stdin, as the pipe of a mail server hands it over.

The exit codes are those of sysexits.h. A mail server keeps the mail at 75, and sends it back to the
person at any other one but 0: so a wrong setting is a 75, too.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from worker.cli.errors import MisuseError
from worker.cli.text import warn
from worker.domain.errors import named


@contextmanager
def mail_is_kept() -> Iterator[None]:
    """Exit with EX_TEMPFAIL whatever goes wrong, unless the mail itself is refused."""
    try:
        yield
    except SystemExit as end:
        sys.exit(end.code if end.code in {0, None, os.EX_DATAERR} else os.EX_TEMPFAIL)
    except Exception as error:  # noqa: BLE001 - its text may quote the mail
        warn(named(error))
        sys.exit(os.EX_TEMPFAIL)


def mail_in(
    *,
    sender: Annotated[
        str | None,
        typer.Option(help="The address of MAIL FROM; empty, or MAILER-DAEMON, for a bounce."),
    ] = None,
    recipient: Annotated[
        list[str] | None, typer.Option(help="The address of RCPT TO. Give it again for each.")
    ] = None,
) -> None:
    """Take a mail from stdin, for the pipe of a mail server.

    A mail server gives both options. A mail from a file needs neither.

    Exits with 0 once it is committed, with 75 (EX_TEMPFAIL: the server tries again) if it cannot
    be now, and with 65 (EX_DATAERR: the server sends it back) for no mail or one over 30 MB.
    """
    from worker.bootstrap.agents import CurrentAgents
    from worker.bootstrap.mail import build_take_mail
    from worker.bootstrap.reports import reading
    from worker.handlers.intake.take_mail import MAX_MAIL_BYTES
    from worker.observability.logs import configure_logging

    if (sender is None) != (not recipient):
        raise MisuseError("give both --sender and --recipient, or none of them")
    with reading("database_url", "namespace", name="worker-mail-in") as (settings, database):
        configure_logging(settings.log_level)
        raw = sys.stdin.buffer.read(MAX_MAIL_BYTES + 1)
        if not raw.strip() or len(raw) > MAX_MAIL_BYTES:
            warn(f"stdin: give a mail of at most {MAX_MAIL_BYTES} bytes")
            sys.exit(os.EX_DATAERR)
        agents = CurrentAgents(settings.agents_file)
        take = build_take_mail(database, agents.current, settings.namespace)
        smtp_sender = None if sender is None else sender.strip("<>")
        take.take_for(raw, sender=smtp_sender, recipients=recipient or ())
