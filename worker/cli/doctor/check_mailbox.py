# ruff: noqa: PLC0415 - its library is an extra
"""The mailbox of IMAP_URL: a login, and when all of its mails were last dealt with."""

from contextlib import closing
from typing import Final

from worker.bootstrap.reports import open_database
from worker.cli.doctor.examine import Setup
from worker.domain.errors import SettingsError
from worker.domain.reports.finding import Finding, fault, ok, warning

_TOO_OLD_S: Final = 300.0


def login(setup: Setup) -> Finding:
    """Log in and select the folder."""
    try:
        from worker.bootstrap.mailbox import way_to_mailbox
    except ModuleNotFoundError as error:
        return fault(f"no {error.name}", "install message-worker[mailbox]")
    from worker.channels.email.mailbox.session import MailboxError

    try:
        _, connect = way_to_mailbox(setup.settings)
        with closing(connect()) as session:
            session.select()
    except SettingsError as error:
        return fault(str(error), "correct it")
    except MailboxError as error:
        return fault(str(error), "check IMAP_URL, its password or IMAP_TOKEN_COMMAND")
    return ok("logged in, the folder is there")


def last_look(setup: Setup) -> Finding:
    """Check that somebody reads it."""
    from worker.bootstrap.mailbox import mailbox_name, way_to_mailbox
    from worker.store.intake.mailboxes import MailboxStore

    server, _ = way_to_mailbox(setup.settings)
    with open_database(setup.settings.database_url) as database:
        age_s = MailboxStore(database).age_s(mailbox_name(server))
    if age_s is None:
        return warning("it was never read", "run `worker mailbox`")
    if age_s > _TOO_OLD_S:
        return warning(f"{age_s:.0f} s ago", "see the log of `worker mailbox`: is it running?")
    return ok(f"{age_s:.0f} s ago")
