"""A mail from its bytes to what is decided about it, and to the text that a model gets."""

from dataclasses import dataclass, replace
from typing import Final

from message_worker_client.envelope.wire import MAX_TEXT_BYTES
from worker.channels.email.new_text import NewText, new_text
from worker.channels.email.parse import parse_mail
from worker.domain.email.mail import Mail, SmtpEnvelope
from worker.domain.email.person import Person, writer
from worker.domain.email.threads import is_reply_subject
from worker.domain.screening.mail.facts import Circumstances, MailScreening
from worker.domain.screening.mail.screen import MailVerdict, screen_mail

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

    @property
    def text(self) -> str:
        """The text that the model gets: the subject where it is new, and what was left out."""
        mail, new = self.mail, self.new
        parts = [f"Subject: {mail.subject}"] if mail.subject and not _is_reply(mail) else []
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


def receive(
    raw: bytes,
    screening: MailScreening,
    *,
    smtp: SmtpEnvelope = SmtpEnvelope(),  # noqa: B008 - frozen
    parent: str = "",
    facts: Circumstances = Circumstances(),  # noqa: B008
) -> Received:
    """Read and screen a mail. `parent`: our own last reply to this person, as it was sent."""
    mail = parse_mail(raw, smtp)
    person = writer(mail, forms=screening.forms, ours=screening.ours)
    from_form = person is not None and person.who is not mail.sender
    # Only a reply quotes us. What else looks so is what a form or a person has pasted.
    quotes = _is_reply(mail) and not from_form
    new = new_text(mail.plain, mail.html, parent, subject=mail.subject, quotes=quotes)
    verdict = screen_mail(mail, screening, replace(facts, new_text=new.text))
    return Received(mail=mail, new=new, person=person, verdict=verdict)


def _is_reply(mail: Mail) -> bool:
    return bool(mail.in_reply_to or mail.references) or is_reply_subject(mail.subject)
