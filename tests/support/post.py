"""A mailbox of ours, driven by hand: mails that come in, and replies that have gone out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.mails import ADA, AGENTS, OURS, Out, smtp, take_mail
from tests.support.world import HandDrivenWorker, World
from worker.domain.email.marks import message_id
from worker.domain.ids import DeliveryId
from worker.handlers.intake.take_mail import TakeMail, Taken
from worker.store.database import Database

SENT = """
INSERT INTO mails (channel, recipient, address, thread, root, message_id, subject, delivery_id)
SELECT u.channel, u.recipient, u.address, u.thread, m.root, %s, m.subject, d.id
FROM deliveries d JOIN channel_users u ON u.id = d.channel_user_id
    JOIN mails m ON (m.recipient, m.address, m.thread) = (u.recipient, u.address, u.thread)
WHERE d.id = %s ORDER BY m.id DESC LIMIT 1
"""
THREADS = "SELECT thread FROM mails WHERE delivery_id IS NULL ORDER BY id"


@dataclass
class Post:
    """The mailbox, and one worker."""

    world: World
    database: Database
    take: TakeMail
    mike: HandDrivenWorker

    def comes(self, raw: bytes, sender: str | None = ADA, recipient: str | None = OURS) -> Taken:
        return self.take.take(raw, smtp(sender, recipient))

    def drained(self) -> None:
        while self.mike.service.background.drain_inbox():
            pass

    def answered(self, said: str = "It left yesterday.") -> DeliveryId:
        """Answer what waits, and return the last reply's delivery as if it had left."""
        self.drained()
        self.world.clock.advance(5)
        self.mike.answer()
        run, value = self.world.database.run, self.world.database.value
        number = value("SELECT max(id) FROM deliveries")
        run("UPDATE replies SET text = %s WHERE id = (SELECT max(id) FROM replies)", said)
        run(
            "UPDATE deliveries SET state = 'sent', request = 'a mail', due_at = NULL,"
            " finished_at = service_now() WHERE id = %s",
            number,
        )
        run(SENT, self.our_id(number), number)
        return DeliveryId(number)

    def our_id(self, delivery: DeliveryId) -> str:
        return message_id(delivery, "acme.example", self.database.secret("mail"))

    def outcomes(self) -> list[tuple[str, str | None]]:
        return [(one["state"], one["outcome"]) for one in self.world.messages()]

    def threads(self) -> list[str]:
        return [one["thread"] for one in self.world.database.rows(THREADS)]


@contextmanager
def post_in(world: World) -> Iterator[Post]:
    database = Database(world.database.url, name="worker-mail")
    mike = world.worker(AGENTS, channels={"mail": Out()})
    yield Post(world, database, take_mail(world, database), mike)
    database.close()
