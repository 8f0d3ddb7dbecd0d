"""A mail from its bytes to what is decided about it, and to the envelope that a worker accepts."""

from base64 import b64encode
from dataclasses import dataclass, replace
from typing import Any, Final

from message_worker_client.envelope.wire import MAX_ATTACHMENTS, MAX_TEXT_BYTES
from worker.channels.email.new_text import NewText, new_text
from worker.channels.email.parse import parse_mail
from worker.domain.email.mail import Mail, SmtpEnvelope
from worker.domain.email.person import Person, writer
from worker.domain.email.threads import is_reply_subject
from worker.domain.routing import ChannelPolicy
from worker.domain.screening.mail.rules import Circumstances
from worker.domain.screening.mail.screen import MailVerdict, screen_mail
from worker.domain.screening.mail.signs import dmarc
from worker.domain.ways_out import MailDelivery

_NO_DRIVER: Final = MailDelivery(addresses=())
_MAX_MENTIONED: Final = 10
_MAX_SHOWN: Final = MAX_TEXT_BYTES - 16 * 1024
"""Bytes of the new text that a model gets: an envelope has room for a subject and notes, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A mail, read and screened."""

    mail: Mail
    new: NewText
    person: Person | None
    """None = the mail names nobody."""
    verdict: MailVerdict | None
    """None = a model answers it."""
    dmarc: str | None
    """The result of our own server."""

    @property
    def text(self) -> str:
        """The text that the model gets: the subject where it is new, and what was left out."""
        mail, new = self.mail, self.new
        parts = [f"Subject: {mail.subject}"] if mail.subject and not is_reply(mail) else []
        shown = new.text.encode()[:_MAX_SHOWN].decode(errors="ignore")
        parts.append(shown)
        if new.left_out:
            lines = "line" if new.left_out == 1 else "lines"
            parts.append(f"[{new.left_out} {lines} of earlier mails or a signature left out]")
        if shown != new.text or not mail.cut <= {"attachments"}:
            parts.append("[the mail was longer]")
        parts += [
            f"[attached: {one.name or 'a file'}, {one.content_type}, {one.size} bytes]"
            for one in mail.attachments[:_MAX_MENTIONED]
            if one.data is None
        ]
        return "\n\n".join(part for part in parts if part) or "[no text]"


@dataclass(frozen=True, slots=True)
class Opened:
    """A mail and who has written it: enough to look up what was there before."""

    mail: Mail
    person: Person | None
    """None = the mail names nobody."""
    options: MailDelivery
    languages: tuple[str, ...]

    def judged(
        self,
        parent: str = "",
        facts: Circumstances = Circumstances(),  # noqa: B008 - frozen
        *,
        last: str = "",
    ) -> Received:
        """Find its new text and screen it. `parent`: our own last reply, as it was sent.

        `last`: the new text of the person's mail before.
        """
        mail, person = self.mail, self.person
        from_form = person is not None and person.who is not mail.sender
        # Only a reply quotes us. What else looks so is what a form or a person has pasted.
        quotes = is_reply(mail) and not from_form
        new = new_text(mail.plain, mail.html, parent, subject=mail.subject, quotes=quotes)
        said = _lines(new.text)
        same = facts.same_text or (bool(said) and said in (_lines(parent), _lines(last)))
        facts = replace(facts, new_text=new.text, same_text=same)
        verdict = screen_mail(mail, self.options, facts, languages=self.languages)
        authentic = dmarc(mail, self.options.authserv_id)
        return Received(mail=mail, new=new, person=person, verdict=verdict, dmarc=authentic)


def open_mail(
    raw: bytes,
    policy: ChannelPolicy,
    smtp: SmtpEnvelope = SmtpEnvelope(),  # noqa: B008 - frozen
) -> Opened:
    """Read a mail. A channel without a driver of e-mail has no addresses."""
    options = policy.delivery if isinstance(policy.delivery, MailDelivery) else _NO_DRIVER
    mail = parse_mail(raw, smtp)
    person = writer(mail, forms=options.forms, ours=options.addresses)
    return Opened(mail, person, options, policy.screening.languages)


def envelope_of(received: Received, *, recipient: str, thread: str) -> dict[str, Any]:
    """Return the envelope without its channel. Raises `ValueError` for a mail that names nobody.

    The outcome of a mail that no model answers is its signal. Of attachments, it has the pictures.
    """
    mail, person, verdict = received.mail, received.person, received.verdict
    if person is None:
        raise ValueError("the mail names nobody")
    document: dict[str, Any] = {
        "version": 1,
        "user": person.who.address,
        "recipient": recipient,
        "thread": thread,
        "message_id": mail.message_id,
        "text": received.text,
        "attachments": [
            {
                "content_type": one.content_type,
                "name": one.name,
                "data": b64encode(one.data).decode(),
            }
            for one in mail.attachments
            if one.data is not None
        ][:MAX_ATTACHMENTS],
    }
    if mail.sent_at is not None:
        document["sent_at"] = mail.sent_at.isoformat(timespec="seconds")
    if verdict is not None:
        document["signals"] = [verdict.outcome]
    return document


def new_part(original: str, left_out: int) -> str:
    """Return what was new in a stored text, whose last lines were left out."""
    lines = _lines(original)
    return "\n".join(lines[: max(0, len(lines) - left_out)])


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def is_reply(mail: Mail) -> bool:
    """Whether a mail says that it answers another one."""
    return bool(mail.in_reply_to or mail.references) or is_reply_subject(mail.subject)
