"""Delivers with a POST to Telnyx's API for e-mail: the stored request, under the delivery's key."""

import json
from dataclasses import dataclass
from typing import ClassVar, Final

from worker.channels.channel import DEADLINE_S
from worker.channels.email.delivery.compose import Composer
from worker.channels.email.outgoing import AUTOMATIC, html_of
from worker.channels.sms.channel import Post, post_stored
from worker.domain.deliveries import DeliveryOutcome, OutgoingReply, Piece
from worker.domain.email.mail import Address

PATH: Final = "/email_messages"


@dataclass(frozen=True, kw_only=True)
class TelnyxMailChannel:
    """One for all threads. Telnyx makes the Message-ID: answers are found by what they answer."""

    post: Post
    composer: Composer
    deadline_s: float = DEADLINE_S
    takes_key: ClassVar[bool] = True

    def compose(self, reply: OutgoingReply) -> tuple[Piece, ...]:
        """Return what every attempt sends."""
        mail, kept = self.composer.compose(reply)
        headers = dict(AUTOMATIC) | {"X-Loop": mail.sender.address}
        if mail.in_reply_to:
            headers |= {"In-Reply-To": mail.in_reply_to, "References": " ".join(mail.references)}
        document = {
            "from": _named(mail.sender),
            "to": [_named(mail.to)],
            "subject": mail.subject,
            "text_body": mail.text,
            "html_body": html_of(mail.text),
            "headers": headers,
        }
        request = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        return (Piece(key=reply.idempotency_key, request=request, mail=kept),)

    def deliver(self, reply: OutgoingReply) -> DeliveryOutcome:
        """POST the stored request once."""
        return post_stored(self.post, PATH, reply, self.deadline_s, takes_key=self.takes_key)


def _named(who: Address) -> dict[str, str]:
    return {"email": who.address, "name": who.name} if who.name else {"email": who.address}
