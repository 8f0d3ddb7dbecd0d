"""Builds the reader of a mailbox: from settings to what `worker mailbox` runs."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from worker.bootstrap.agents import CurrentAgents
from worker.bootstrap.mail import build_take_mail
from worker.bootstrap.reports import open_database
from worker.channels.email.mailbox.session import MailboxSession
from worker.config.settings import Settings
from worker.domain.email.mail import SmtpEnvelope
from worker.domain.email.server import IMAP_PORTS, MailServer, parse_server
from worker.domain.errors import SettingsError
from worker.handlers.intake.read_mailbox import ReadMailbox
from worker.handlers.intake.take_mail import mail_channel
from worker.net.dial import tls_context
from worker.observability import metrics
from worker.observability.metrics_server import MetricsServer
from worker.store.intake.mailboxes import MailboxStore

_POOL_SIZE: Final = 2
"""One holds the lock of the mailbox, the other one takes a mail."""


@dataclass(frozen=True, kw_only=True)
class MailboxPoller:
    """The reader, and what a process does beside it."""

    reader: ReadMailbox
    reload_agents: Callable[[], None]
    start_telemetry: Callable[[], bool]
    close: Callable[[], None]


def build_mailbox(settings: Settings, *, since: datetime | None) -> MailboxPoller:
    """Build it; it connects to nothing yet. Raises `SettingsError`."""
    server, connect = way_to_mailbox(settings)
    agents = CurrentAgents(settings.agents_file)
    mail_channel(agents.routing)
    stack = ExitStack()
    url, prepare = settings.database_url, settings.database_prepare
    opened = open_database(url, pool_size=_POOL_SIZE, name="worker-mailbox", prepare=prepare)
    database = stack.enter_context(opened)
    telemetry = MetricsServer(port=settings.metrics_port, files=settings.metrics_file_sd_dir)
    stack.callback(telemetry.stop)
    take_mail = build_take_mail(database, agents.current, settings.namespace)
    reader = ReadMailbox(
        name=mailbox_name(server),
        connect=connect,
        store=MailboxStore(database),
        # A mailbox does not keep what its server was told.
        take=lambda raw, arrived: take_mail.take(raw, SmtpEnvelope(arrived=arrived)),
        since=since,
    )
    metrics.LOOK_AGE.labels(server.path or "INBOX").set_function(reader.look_age_s)
    return MailboxPoller(
        reader=reader,
        reload_agents=agents.reload,
        start_telemetry=telemetry.start,
        close=stack.close,
    )


def way_to_mailbox(settings: Settings) -> tuple[MailServer, Callable[[], MailboxSession]]:
    """Return the server of IMAP_URL, and what logs in there. Raises `SettingsError`."""
    if settings.imap_url is None:
        wanted = "imaps://user:password@host/INBOX"
        raise SettingsError(f"IMAP_URL is not set: give {wanted}")
    server, command = parse_server(settings.imap_url, IMAP_PORTS), settings.imap_token_command
    try:
        tls = tls_context(os.environ, http=False)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return server, lambda: MailboxSession.open(server, tls=tls, token_command=command)


def mailbox_name(server: MailServer) -> str:
    """Return the name of a mailbox's row."""
    return f"{server.user}@{server.host}:{server.port}/{server.path or 'INBOX'}"
