"""A person's mail program, and where a sandbox's mails go: to files, unless SMTP_URL is set."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Final, Self

from message_worker_client import MessageKey
from worker.bootstrap.mail import build_take_mail
from worker.bootstrap.reports import open_database
from worker.config.agents_file import load_agents
from worker.config.settings import Settings, is_configured, sandbox_dir
from worker.domain.email.threads import thread_key
from worker.domain.routing import Routing
from worker.handlers.intake.take_mail import TakeMail
from worker.net.child_process import ChildProcess

_STOP_S: Final = 5.0
_READ_S: Final = 3.5
"""Who answers within three seconds is taken for a machine."""


@dataclass(frozen=True, slots=True)
class MailChannel:
    """The channel whose replies leave by SMTP."""

    name: str
    address: str
    """Ours."""


def mails_folder() -> Path:
    """Return where the mails of a sandbox go."""
    return sandbox_dir() / "mails"


def mail_channel(routing: Routing) -> MailChannel | None:
    """Return the channel with the driver of SMTP; None = there is none."""
    if routing.mail_channel is None or routing.mail_channel[1].telnyx:
        return None
    policy_, options = routing.mail_channel
    return MailChannel(policy_.name, options.addresses[0])


@contextmanager
def mails_to_files(agents_file: Path | None) -> Iterator[dict[str, str]]:
    """Embed an SMTP server if a channel needs one; yields the settings that lead to it."""
    if is_configured("SMTP_URL") or mail_channel(load_agents(agents_file)[0]) is None:
        yield {}
        return
    from worker.sandbox.mail_sink import mail_sink  # noqa: PLC0415 - see service.py

    with mail_sink(mails_folder()) as url:
        yield {"SMTP_URL": url}


def start_mailbox(settings: Settings, stack: ExitStack) -> ChildProcess | None:
    """Start `worker mailbox` if there is one to read."""
    if settings.imap_url is None:
        return None
    reader = ChildProcess((sys.executable, "-m", "worker", "mailbox"), env=os.environ, log=None)
    stack.callback(reader.stop, _STOP_S)
    return reader


@dataclass(kw_only=True)
class MailProgram:
    """One thread: each mail but the first answers the last one that came, and quotes it."""

    take: TakeMail
    channel: MailChannel
    person: str
    subject: str
    folder: Path = field(default_factory=mails_folder)
    sent: list[str] = field(default_factory=list)
    """Message-IDs."""
    _raw: bytes = b""

    @classmethod
    @contextmanager
    def opened(
        cls,
        channel: MailChannel,
        *,
        person: str,
        subject: str,
        routing: Routing,
        settings: Settings,
    ) -> Iterator[Self]:
        """Open that of a person. Its mails come in as from a mailbox or a mail server."""
        with open_database(settings.database_url) as database:
            take = build_take_mail(database, lambda: routing, settings.namespace)
            yield cls(take=take, channel=channel, person=person, subject=subject)

    def write(self, text: str) -> MessageKey:
        """Write a mail; return the key of its message."""
        came = self.mails()
        answers = came[-1] if came else None
        if answers is not None:
            time.sleep(max(0.0, answers[0].stat().st_mtime + _READ_S - time.time()))
        self._raw = self._mail(text, answers and answers[1]).as_bytes()
        self.send_again()
        us = self.channel.address
        return MessageKey(
            channel=self.channel.name,
            recipient=us,
            user=self.person,
            thread=thread_key(us, self.person, self.sent[0]),
            message_id=self.sent[-1],
        )

    def send_again(self) -> None:
        """Let the last mail come in, for instance by a second way."""
        self.take.take_for(self._raw, sender=self.person, recipients=[self.channel.address])

    def mails(self) -> list[tuple[Path, EmailMessage]]:
        """Return the mails of the thread that came, oldest first."""
        files = sorted(self.folder.glob("*.eml"))
        read = [
            (file, message_from_bytes(file.read_bytes(), policy=policy.default)) for file in files
        ]
        ours = set(self.sent[:1])
        return [(file, one) for file, one in read if ours & set(str(one["References"]).split())]

    def arrived(self) -> list[tuple[str, str]]:
        """Return ids and texts of those mails."""
        return [(str(one["Message-ID"]), text_of(one)) for _, one in self.mails()]

    def _mail(self, text: str, answers: EmailMessage | None) -> EmailMessage:
        mail = EmailMessage(policy=policy.SMTP)
        mail["From"], mail["To"] = self.person, self.channel.address
        mail["Subject"], mail["Date"] = self.subject, formatdate()
        if answers is None and self.sent:
            mail["References"] = " ".join(self.sent)
        self.sent.append(make_msgid(domain="example.org"))
        mail["Message-ID"] = self.sent[-1]
        if answers is not None:
            mail["In-Reply-To"] = answers["Message-ID"]
            mail["References"] = f"{answers['References']} {answers['Message-ID']}"
            mail.replace_header("Subject", answers["Subject"])
            quoted = "".join(f"> {line}\n" for line in text_of(answers).splitlines())
            text = f"{text}\n\nOn {answers['Date']}, {answers['From']} wrote:\n{quoted}"
        mail.set_content(text)
        return mail


def text_of(mail: EmailMessage) -> str:
    """Return the plain text of a mail."""
    body = mail.get_body(("plain",))
    # Of a mail from a wire or a file, the lines end in CRLF.
    return "" if body is None else "\n".join(str(body.get_content()).strip().splitlines())
