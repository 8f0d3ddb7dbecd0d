"""A world with a mailbox in it, and pollers that the test drives."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tests.support.dovecot import Account, Dovecot
from tests.support.mails import mail_of, take_mail
from tests.support.world import World
from worker.bootstrap.mailbox import way_to_mailbox
from worker.domain.email.mail import SmtpEnvelope
from worker.handlers.intake.read_mailbox import ReadMailbox
from worker.store.database import Database
from worker.store.intake.mailboxes import MailboxStore

EVERY = datetime.fromtimestamp(0, UTC)
TAKEN = "SELECT message_id FROM mails ORDER BY id"
LETTERS = "SELECT reason, detail, raw, queue FROM dead_letters ORDER BY id"


def mail(number: int, text: str = "Where is my order?") -> bytes:
    sender, one = f"person{number}@example.org", f"<{number}@example.org>"
    return mail_of(text, sender=sender, message_id=one, subject=f"Order {number}")


@dataclass
class Place:
    """A world with a mailbox in it."""

    world: World
    server: Dovecot
    database: Database
    folder: str = "INBOX"

    def __post_init__(self) -> None:
        self.account: Account = self.server.account(self.folder)

    def reader(self, url: str | None = None, **changes: object) -> ReadMailbox:
        """A poller: quick, and of everything that is there."""
        settings = replace(self.world.settings(), imap_url=url or self.account.url)
        _, connect = way_to_mailbox(settings)
        made = ReadMailbox(
            name=self.account.user,
            connect=connect,
            store=MailboxStore(self.database),
            take=lambda raw, arrived: take.take(raw, SmtpEnvelope(arrived=arrived)),
            since=EVERY,
            poll_s=0.2,
        )
        take = take_mail(self.world, self.database)
        return replace(made, **changes)  # type: ignore[arg-type]

    def look(self, reader: ReadMailbox) -> None:
        with closing(reader.connect()) as session:
            reader._look(session)

    def taken(self) -> list[int]:
        """The numbers of the mails in the order in which they were taken."""
        found = self.world.database.rows(TAKEN)
        return [int(row["message_id"].strip("<>").partition("@")[0]) for row in found]

    def envelopes(self) -> int:
        return int(self.world.database.value("SELECT count(*) FROM inbox"))

    def letters(self) -> list[dict[str, object]]:
        return self.world.database.rows(LETTERS)

    def last_uid(self) -> int:
        return int(self.world.database.value("SELECT last_uid FROM mailboxes"))


@contextmanager
def place_in(world: World, server: Dovecot) -> Iterator[Place]:
    database = Database(world.database.url, pool_size=6)
    try:
        yield Place(world, server, database)
    finally:
        database.close()


@contextmanager
def running(reader: ReadMailbox) -> Iterator[ReadMailbox]:
    thread = threading.Thread(target=reader.run)
    thread.start()
    try:
        yield reader
    finally:
        reader.stop.set()
        thread.join(10)
        assert not thread.is_alive()
