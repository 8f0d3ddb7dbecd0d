"""The demo's third part: a person mails us, and answers what comes back.

mail ─▶ TakeMail (as from a mailbox or a mail server) ─▶ worker ─SMTP▶ a file in the sandbox
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

from worker.bootstrap.mail import build_take_mail
from worker.bootstrap.reports import open_database
from worker.cli.console import escape_for_terminal, print_line
from worker.cli.errors import CommandError
from worker.cli.local.demo_phone import Check
from worker.cli.local.mail import MailChannel, MailProgram, text_of
from worker.config.settings import Settings
from worker.domain.routing import Routing

GINA: Final = "gina@example.org"
_QUESTION: Final = "Can I bring my dog?"
_FURTHER: Final = "Thanks! And is there a garden?"
_TIMEOUT_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.08


@dataclass(kw_only=True)
class MailThread:
    """The thread, as it goes on."""

    program: MailProgram

    @classmethod
    @contextmanager
    def begun(cls, channel: MailChannel, routing: Routing, settings: Settings) -> Iterator[Self]:
        """Write the first mail."""
        with open_database(settings.database_url) as database:
            program = MailProgram(
                take=build_take_mail(database, lambda: routing, settings.namespace),
                channel=channel,
                person=GINA,
                subject="Dinner tonight",
            )
            thread = cls(program=program)
            thread._write(_QUESTION)
            yield thread

    def ended(self) -> Iterator[Check]:
        """Answer what came, wait for the reply, and check the whole."""
        self._show_reply(1)
        self._write(_FURTHER)
        self.program.send_again()
        self._show_reply(2)
        mails = [one for _, one in self.program.mails()]
        heads = [(str(one["Subject"]), str(one["In-Reply-To"])) for one in mails]
        said = text_of(mails[-1])
        yield (
            "2 mails, one came twice: one answer each, in one thread, to what is not quoted",
            heads == [("Re: Dinner tonight", one) for one in self.program.sent]
            and _FURTHER in said
            and _QUESTION not in said,
            f"subjects and In-Reply-To {heads}, the last answer {said!r}",
        )

    def _write(self, text: str) -> None:
        print_line(f"mail from {GINA}: {escape_for_terminal(text)}")
        self.program.write(text)

    def _show_reply(self, number: int) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while len(came := self.program.arrived(GINA)) < number:
            if time.monotonic() > deadline:
                raise CommandError(f"a mail has no answer after {_TIMEOUT_S:g} s")
            time.sleep(_LOOK_EVERY_S)
        print_line(f"mail to {GINA}: [cyan]{escape_for_terminal(came[number - 1][1])}[/]")
