"""Bytes of RFC 5322 to a mail. It never raises: mail is what anybody cares to send.

`email` of the standard library reads all that was found in the wild, if it is asked the right way:
no header is parsed before its value is needed, and then alone; charsets have a ladder instead of
an exception; what is large is cut before (see `bounds`), because the parser keeps every line.
"""

import re
from email.message import Message
from email.parser import BytesParser
from email.policy import Policy, compat32
from typing import Final

from message_worker_client.envelope.wire import MAX_TEXT_BYTES
from worker.channels.email import headers as read
from worker.channels.email.bounds import MAX_HEADERS, bounded
from worker.channels.email.charsets import header_text
from worker.channels.email.html import visible_text
from worker.channels.email.parts import Contents, Part, contents
from worker.domain.email.mail import Mail, SmtpEnvelope

MAX_PARTS: Final = 250
_MAX_SUBJECT: Final = 500
_ENCODED_TYPE: Final = re.compile(rb"(?im)^(content-type:[ \t]*)(=\?[^\r\n]{1,500})")


class _TooManyPartsError(Exception):
    pass


def parse_mail(raw: bytes, smtp: SmtpEnvelope = SmtpEnvelope()) -> Mail:  # noqa: B008 - frozen
    """Read a mail as far as it can be read."""
    document, shortened = bounded(raw)
    cut = {"size"} if shortened else set()
    try:
        message = _parsed(document)
        found = contents(message)
    except Exception:  # noqa: BLE001 - a defect of the library, or a mail made to find one
        # Its headers are enough for a verdict, and the raw bytes are still there.
        head = document[:MAX_HEADERS]
        message = BytesParser(policy=compat32).parsebytes(head, headersonly=True)
        found = Contents()
        cut.add("parts")
    return _mail(raw, message, found, cut | found.cut, smtp)


def _parsed(document: bytes) -> Part:
    parts = 0

    def counted(policy: "Policy[Part]" = compat32) -> Part:
        nonlocal parts
        parts += 1
        if parts > MAX_PARTS:
            raise _TooManyPartsError
        return Message(policy)

    document = _ENCODED_TYPE.sub(_type_in_the_open, document)
    return BytesParser(counted, policy=compat32).parsebytes(document)


def _type_in_the_open(found: "re.Match[bytes]") -> bytes:
    """Decode a content type that is written as an encoded word."""
    return found[1] + header_text(found[2].decode("ascii", "replace")).encode("ascii", "replace")


def _mail(raw: bytes, message: Part, found: Contents, cut: set[str], smtp: SmtpEnvelope) -> Mail:
    headers = read.all_headers(message.raw_items())

    def values(name: str) -> tuple[str, ...]:
        return headers.get(name, ())

    plain, html = _text(found)
    if len(plain.encode()) > MAX_TEXT_BYTES:
        cut.add("text")
        plain = plain.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")
    return Mail(
        headers=headers,
        message_id=read.message_id(values("message-id"), raw),
        in_reply_to=read.ids(values("in-reply-to")),
        references=read.ids(values("references")),
        sender=read.sender(headers),
        reply_to=read.addresses(values("reply-to")),
        to=read.addresses(values("to")),
        cc=read.addresses(values("cc")),
        subject=header_text(next(iter(values("subject")), ""))[:_MAX_SUBJECT],
        sent_at=read.date(next(iter(values("date")), "")),
        plain=plain,
        html=html,
        attachments=tuple(found.attachments),
        parts=frozenset(found.types),
        calendar=found.calendar,
        encrypted=found.encrypted or plain.lstrip().startswith("-----BEGIN PGP MESSAGE-----"),
        cut=frozenset(cut),
        smtp=smtp,
    )


def _text(found: Contents) -> tuple[str, str]:
    """Return the text and its HTML. Of plain and HTML the plain one counts, if it says anything.

    HTML may show people less than it holds.
    """
    blocks = found.blocks
    html = "\n".join(one.html for one in blocks if one.html.strip())
    if not any(one.plain.strip() for one in blocks):
        return "", html
    texts = (one.plain if one.plain.strip() else visible_text(one.html) for one in blocks)
    return "\n".join(one for one in texts if one.strip()), html
