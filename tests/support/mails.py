"""Mails as their bytes, and a world with a channel for them."""

from typing import Final

from tests.support.world import NAMESPACE, World
from worker.bootstrap.mail import build_take_mail
from worker.config.agents_file import load_agents
from worker.domain.deliveries import DeliveryOutcome, OutgoingReply, Sent
from worker.domain.email.mail import SmtpEnvelope
from worker.domain.routing import Routing
from worker.handlers.intake.take_mail import TakeMail
from worker.store.database import Database

OURS: Final = "help@acme.example"
ADA: Final = "ada@example.org"
AGENTS: Final = """
[channels.mail]
driver = "smtp"
disclosure = "none"
[channels.mail.mail]
addresses = ["help@acme.example", "sales@acme.example"]
"""


class Out:
    """A way out on which everything leaves."""

    takes_key = False

    def deliver(self, _reply: OutgoingReply) -> DeliveryOutcome:
        return Sent()


def mail_of(
    text: str = "Where is my order?",
    *,
    sender: str = ADA,
    to: str = OURS,
    subject: str = "Order",
    message_id: str = "<one@example.org>",
    **headers: str,
) -> bytes:
    """Return a mail; a header's name has an underscore for each hyphen."""
    named = {"From": sender, "To": to, "Subject": subject, "Message-ID": message_id}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value)
    return f"{head}\r\n{text}\r\n".encode()


def smtp(sender: str | None = ADA, recipient: str | None = OURS) -> SmtpEnvelope:
    return SmtpEnvelope(sender=sender, recipient=recipient)


def routing_of(world: World, agents: str = AGENTS) -> Routing:
    file = world.folder / "mail-agents.toml"
    file.write_text(agents)
    return load_agents(file)[0]


def take_mail(world: World, database: Database, agents: str = AGENTS) -> TakeMail:
    routing = routing_of(world, agents)
    return build_take_mail(database, lambda: routing, NAMESPACE)


def bounce_of(to: str, *, action: str = "failed", status: str = "5.1.1") -> bytes:
    """Return a report on a delivery, as Postfix writes it."""
    head = {
        "From": "MAILER-DAEMON@mx.example.org",
        "To": to,
        "Subject": "Undelivered Mail Returned to Sender",
        "Message-ID": "<bounce@mx.example.org>",
        "Auto-Submitted": "auto-replied",
        "Content-Type": 'multipart/report; report-type=delivery-status; boundary="b"',
    }
    headers = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    report = f"Final-Recipient: rfc822; {ADA}\r\nAction: {action}\r\nStatus: {status}\r\n"
    parts = (
        "Content-Type: text/plain\r\n\r\nI am sorry to have to inform you.\r\n",
        f"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\n{report}",
    )
    body = "".join(f"--b\r\n{part}" for part in parts)
    return f"{headers}\r\n{body}--b--\r\n".encode()
