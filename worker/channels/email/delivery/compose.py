"""Writes the mail of a reply, made of stored values alone: once, before the first attempt."""

from collections.abc import Callable
from dataclasses import dataclass

from worker.channels.email.outgoing import OutgoingMail
from worker.domain.deliveries import OutgoingReply
from worker.domain.email.mail import Address, AnsweredMail, SentMail
from worker.domain.email.marks import bounce_address, message_id
from worker.domain.email.threads import reply_subject
from worker.domain.people.disclosure import below, sender_name
from worker.domain.ways_out import MailDelivery


@dataclass(frozen=True, kw_only=True)
class Composer:
    """Of one channel."""

    options: MailDelivery
    answered: Callable[[OutgoingReply], AnsweredMail | None]
    """Finds the newest mail that a reply answers; None = there is none, or it is erased."""
    key: Callable[[], bytes]
    """Of our marks, see `worker.domain.email.marks`."""

    def compose(self, reply: OutgoingReply) -> tuple[OutgoingMail, SentMail]:
        """Return the mail, and what is kept of it."""
        if reply.created_at is None:
            raise ValueError("a mail needs the time at which its reply was made")
        name = self.options.name if reply.disclosure is None else sender_name(self.options.name)
        us = Address(self.options.addresses[0], name)
        own = message_id(reply.delivery_id, us.domain, self.key())
        # Without a mail, we write first.
        found = self.answered(reply) or AnsweredMail(
            message_id="",
            root=own,
            refs=(),
            subject=self.options.name or us.address,
            reply_to=None,
            from_name="",
        )
        subject = reply_subject(found.subject) if found.message_id else found.subject
        mail = OutgoingMail(
            message_id=own,
            sender=us,
            to=Address(found.reply_to or reply.to.address, found.from_name),
            subject=subject,
            text=below(reply.text, reply.disclosure),
            date=reply.created_at,
            in_reply_to=found.message_id,
            references=found.refs,
        )
        kept = SentMail(message_id=own, root=found.root, refs=found.refs, subject=subject)
        return mail, kept

    def bounce_to(self, reply: OutgoingReply) -> str:
        """Return the envelope sender: a bounce comes back to it, and names the delivery."""
        domain = Address(self.options.addresses[0]).domain
        return bounce_address(reply.delivery_id, domain, self.key())
