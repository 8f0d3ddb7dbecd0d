# ruff: noqa: PLC0415 - a doctor without e-mail does without SMTP, and IMAP is an extra
"""E-mail: the server that takes replies, who they are from, whether senders are checked, a mailbox.

Those of the mailbox are made if IMAP_URL is set, the others if a channel has a driver of e-mail;
two of them only if it is SMTP.
"""

import os
from contextlib import closing
from typing import Final

from worker.bootstrap.reports import open_database
from worker.cli.doctor.examine import UNREACHABLE, Setup
from worker.domain.email.server import SMTP_PORTS, parse_server
from worker.domain.errors import SettingsError
from worker.domain.reports.finding import Finding, fault, ok, warning
from worker.domain.routing import ChannelPolicy
from worker.domain.ways_out import MailDelivery

_PATIENCE_S: Final = 4.0
_TOO_OLD_S: Final = 300.0
"""Of the last look at the mailbox."""
_LOOKED_AT: Final = 50
_ENOUGH: Final = 5
"""Mails without a result, after which one would be expected."""
_TAKEN: Final = 251
_REFUSED: Final = 500
_TOKENS: Final = "Google and Microsoft take an app password or SMTP_TOKEN_COMMAND"


def login(setup: Setup) -> Finding:
    """Log in as a worker does, and offer a mail from us to us; it is taken back before its text."""
    from smtplib import SMTPException

    from worker.channels.build import way_to_smtp
    from worker.channels.email.delivery.session import InsecureError, RefusedError
    from worker.net.access_token import TokenError
    from worker.net.answer import IncompleteAnswerError
    from worker.net.window import CallWindow

    us, settings = _channel(setup)[1].addresses[0], setup.settings
    domain = us.rpartition("@")[2]
    if settings.smtp_url is None:
        return fault("SMTP_URL is not set", "give smtp://user:password@host, or smtps://")
    command = settings.smtp_token_command
    try:
        connect = way_to_smtp(settings.smtp_url, command, name=domain, environ=os.environ)
        with closing(connect(CallWindow.starting_now(_PATIENCE_S))) as session:
            if (refused := session.mail(f"bounce+doctor@{domain}")[0]) <= _TAKEN:
                refused = session.rcpt(us)[0]
            session.rset()
    except InsecureError:
        fix = "use smtps:// if it has that, or another server: a password would go unencrypted"
        return fault("the server offers no encryption (STARTTLS)", fix)
    except RefusedError as error:
        if error.phase.startswith("AUTH"):
            return fault(f"login refused ({error})", f"check user and password; {_TOKENS}")
        return fault(f"refused ({error})", "ask who runs it: your machine may be blocked there")
    except TokenError as error:
        return fault(str(error), "run SMTP_TOKEN_COMMAND yourself: it has to print a token")
    except (IncompleteAnswerError, OSError, SMTPException) as error:
        return _no_connection(error)
    except ValueError as error:
        return fault(str(error), "correct it")
    if refused > _TAKEN:
        return _not_taken(refused)
    return ok("logged in, it takes mails from us" + _encryption(setup))


def alignment(setup: Setup) -> Finding:
    """Compare the domains that receivers compare."""
    url, domain = setup.settings.smtp_url, _channel(setup)[1].addresses[0].rpartition("@")[2]
    user = ((parse_server(url, SMTP_PORTS).user if url else None) or "").lower()
    if "@" in user and user.rpartition("@")[2] != domain:
        return warning(
            "the user of SMTP_URL has another domain than our first address",
            "log in as an address of that domain, or make sure that the server signs for it "
            "(DKIM): otherwise DMARC fails at receivers",
        )
    return ok("From and envelope sender have one domain; SPF and DKIM for it are the relay's work")


def authentication(setup: Setup) -> Finding:
    """Check that our own server's word on senders is found in mails."""
    from worker.store.intake.mails import MailStore

    (channel, options), setting = _channel(setup), "authserv_id"
    if options.authserv_id is None:
        fix = f"set {setting} to the first word of Authentication-Results in a mail that you got"
        return warning(f"{setting} is not set: anybody can write in another person's name", fix)
    with open_database(setup.settings.database_url) as database:
        mails, results = MailStore(database).dmarc_results(channel.name, _LOOKED_AT)
    if results or mails < _ENOUGH:
        return ok(f"{results} of the last {mails} mails have a DMARC result of {setting}")
    found = f"none of the last {mails} mails has a DMARC result of {setting}"
    fix = "compare it with the first word of Authentication-Results in a mail that you got"
    if options.require_dmarc:
        return fault(f"{found}, and require_dmarc leaves them unanswered", fix)
    return warning(found, fix)


def mailbox(setup: Setup) -> Finding:
    """Log in to the mailbox of IMAP_URL and select the folder."""
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
    """Check that somebody reads the mailbox."""
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


def _channel(setup: Setup) -> tuple[ChannelPolicy, MailDelivery]:
    found = setup.routing.mail_channel
    assert found is not None  # noqa: S101 - these checks are made for it
    return found


def _not_taken(code: int) -> Finding:
    found = f"it does not take a mail from us to us ({code})"
    if code < _REFUSED:
        return warning(f"{found} for now", "try again in some minutes: it may delay strangers")
    fix = "let the user of SMTP_URL send as our first address, and as bounce+…@ its domain"
    return fault(found, fix)


def _no_connection(error: Exception) -> Finding:
    told = f"{type(error).__name__} {error}"  # only searched: a text may name the server
    if "CertVerification" in told:
        fix = "use the name that it is for, or name your own authority in SSL_CERT_FILE"
        return fault("its certificate is not valid for this name", fix)
    if "WRONG_VERSION" in told or "SSLError" in told:
        return fault("no TLS there", "smtps:// is for port 465, smtp:// for port 587")
    return fault(f"no answer ({type(error).__name__})", f"{UNREACHABLE}; clouds block port 25")


def _encryption(setup: Setup) -> str:
    server = parse_server(setup.settings.smtp_url or "", SMTP_PORTS)
    return ", without encryption, on this machine" if server.plain else ", encrypted"
