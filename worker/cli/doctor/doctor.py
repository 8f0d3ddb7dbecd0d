"""`worker doctor`: checks everything an installation depends on, and names the fix of each fault.

It works with settings missing or broken, stops at no fault, ends in bounded time, changes nothing
but a conversation of its own at Telnyx, and prints no address, key or text.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

from worker.cli.console import escape_for_terminal
from worker.cli.doctor import check_broker as broker
from worker.cli.doctor import check_celery as celery
from worker.cli.doctor import check_mail as mail
from worker.cli.doctor import check_messaging as messaging
from worker.cli.doctor import check_postgres as postgres
from worker.cli.doctor import check_rows as rows
from worker.cli.doctor import check_settings as settings
from worker.cli.doctor import check_telnyx as telnyx
from worker.cli.doctor.check_settings import REQUIRED
from worker.cli.doctor.examine import Check, Setup, examine
from worker.domain.errors import WorkerError
from worker.domain.reports.finding import Finding, Level

_COLOURS: Final = {
    Level.OK: "green",
    Level.WARNING: "yellow",
    Level.FAULT: "red",
    Level.UNCHECKED: "dim",
}

_OTHERS: Final = "other settings"
_AGENTS: Final = "agents file"
_DATABASE: Final = "database connection"
_BROKER: Final = "broker connection"
_APP: Final = "Celery's app"
_KEY: Final = "API key"
_MODELS: Final = "models"
_ALL: Final = (*(name.upper() for name in REQUIRED), _OTHERS)

CHECKS: Final = (
    *(Check("settings", name.upper(), partial(settings.required, field=name)) for name in REQUIRED),
    Check("settings", _OTHERS, settings.others),
    Check("settings", _AGENTS, settings.agents_file, needs=(_OTHERS,)),
    Check("settings", "tools", settings.tools, needs=(_AGENTS,)),
    Check("settings", "people", settings.people, needs=(_AGENTS,)),
    Check("postgres", _DATABASE, postgres.connection, needs=("DATABASE_URL",)),
    Check("postgres", "database clock", postgres.clock, needs=(_DATABASE,)),
    Check("postgres", "replication", postgres.replication, needs=(_DATABASE,)),
    Check("postgres", "migrations", postgres.migrations, needs=(_DATABASE,)),
    Check("postgres", "permissions", postgres.permissions, needs=(_DATABASE, "migrations")),
    Check("postgres", "notifications", postgres.notifications, needs=(_DATABASE,)),
    Check("postgres", "timeouts", postgres.timeouts, needs=(_DATABASE,)),
    Check("postgres", "Postgres's log", postgres.log_file, needs=(_DATABASE,)),
    Check("postgres", "session settings", postgres.session, needs=(_DATABASE,)),
    Check("postgres", "pooler", postgres.pooler, needs=(_DATABASE,)),
    Check("broker", _BROKER, broker.connection, needs=("BROKER_URL",)),
    Check("broker", "broker rights", broker.rights, needs=(_BROKER, _AGENTS)),
    Check("broker", "eviction", broker.eviction, needs=(_BROKER,)),
    Check("broker", "persistence", broker.persistence, needs=(_BROKER,)),
    Check("broker", "live replies", broker.live_replies, needs=(_BROKER, _AGENTS)),
    Check("broker", "messages", broker.misplaced, needs=(_BROKER,)),
    Check("celery", _APP, celery.build, needs=_ALL),
    Check("celery", "Celery's broker", celery.broker, needs=(_APP,)),
    Check("celery", "result backend", celery.results, needs=(_APP,)),
    Check("celery", "visibility timeout", celery.visibility, needs=(_APP, _AGENTS)),
    Check("flower", "Flower", celery.protection),
    Check("telnyx", _KEY, telnyx.key, needs=("TELNYX_API_KEY", _OTHERS)),
    Check("telnyx", "Telnyx's clock", telnyx.clock, needs=(_KEY,)),
    Check("telnyx", "conversations", telnyx.conversations, needs=("migrations", "NAMESPACE")),
    Check("telnyx", _MODELS, telnyx.models, needs=(_KEY, _AGENTS)),
)

_PROFILE: Final = "messaging profile"
_MAILBOX: Final = "mailbox"
# If a channel has the driver of SMS.
MESSAGING: Final = (
    Check("telnyx", _PROFILE, messaging.profile, needs=(_KEY, _AGENTS)),
    Check("telnyx", "webhooks' key", messaging.public_key, needs=(_KEY,)),
    Check("telnyx", "numbers", messaging.numbers, needs=(_KEY, _AGENTS)),
    Check("telnyx", "opt-out keywords", messaging.keywords, needs=(_KEY, _AGENTS)),
    Check("telnyx", "10DLC campaign", messaging.campaign, needs=("numbers",)),
)

_AUTHENTICATION: Final = Check("mail", "senders", mail.authentication, needs=("migrations",))
# If a channel has a driver of e-mail.
MAIL_BY_TELNYX: Final = (_AUTHENTICATION,)
MAIL_BY_SMTP: Final = (
    Check("mail", "SMTP login", mail.login),
    Check("mail", "From alignment", mail.alignment),
    _AUTHENTICATION,
)


# If IMAP_URL is set.
MAILBOX: Final = (
    Check("mailbox", _MAILBOX, mail.mailbox),
    Check("mailbox", "last look", mail.last_look, needs=(_MAILBOX, "migrations")),
)


# With --audit.
AUDIT: Final = (
    Check("postgres", "rows", rows.parents, needs=("migrations",), timeout_s=rows.AUDIT_S),
)


def diagnose(setup: Setup, *, telnyx_writes: bool, audit: bool) -> Iterator[Finding]:
    """Yield every line as soon as it is known."""
    found: dict[str, Level] = {}
    texts = MESSAGING if setup.routing.telnyx_policy() else ()
    mailing = setup.routing.mail_channel
    mails = () if mailing is None else MAIL_BY_TELNYX if mailing[1].telnyx else MAIL_BY_SMTP
    boxes = MAILBOX if setup.settings.imap_url else ()
    audits = AUDIT if audit else ()
    for line in examine((*CHECKS, *texts, *mails, *boxes, *audits), setup):
        found[line.name] = line.level
        yield line
    if not telnyx_writes:
        yield telnyx.not_played("--no-telnyx-writes")
    elif found[_MODELS] is not Level.OK:
        yield telnyx.not_played(f"{_MODELS} comes first")
    else:
        try:
            yield from telnyx.played(setup)
        except WorkerError as error:
            yield telnyx.not_played(str(error))


def line_of(line: Finding) -> str:
    """Return a line of the report, with markup."""
    level = line.level.upper() if line.level is Level.FAULT else str(line.level)
    what = f"{line.group:<9} {escape_for_terminal(line.name)}: {escape_for_terminal(line.found)}"
    fix = f" [bold]->[/] {escape_for_terminal(line.fix)}" if line.fix else ""
    return f"[{_COLOURS[line.level]}]{level:<11}[/] {what}{fix}"
