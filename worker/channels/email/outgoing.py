"""The bytes of a reply: the same for the same reply, so that every attempt sends the same mail.

Headers are written here and not by `email`: it would encode a Message-ID that is longer than a
line, and no client recognises that again.
"""

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.utils import format_datetime
from functools import cache
from hashlib import sha256
from quopri import encodestring
from typing import Final

from markdown_it import MarkdownIt

from worker.domain.email.mail import Address

AUTOMATIC: Final = (("Auto-Submitted", "auto-replied"), ("X-Auto-Response-Suppress", "All"))
"""RFC 3834, and what Exchange reads: no machine shall answer it, see `screening.mail`."""
_LINE: Final = 76
_MAX_LINE: Final = 998
_MAX_NAME: Final = 100
_SPECIALS: Final = frozenset('()<>[]:;@\\,."')
_MOSTLY: Final = 1 / 4
"""Part of other letters than ASCII from which base64 is shorter than quoted-printable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMail:
    """A reply that is ready to leave."""

    message_id: str
    sender: Address
    to: Address
    subject: str
    text: str
    """As the model has written it, perhaps with Markdown."""
    date: datetime
    """When the reply was made, not when it leaves."""
    in_reply_to: str = ""
    references: tuple[str, ...] = ()


def mail_bytes(mail: OutgoingMail) -> bytes:
    """Return the mail as SMTP carries it, but for the doubling of leading dots."""
    digest = sha256(f"{mail.message_id} {mail.text}".encode(errors="replace")).hexdigest()
    boundary = f"=_{digest[:32]}"
    headers = [
        _folded("From", _mailbox("From", mail.sender)),
        _folded("To", _mailbox("To", mail.to)),
        f"Subject: {_subject(mail.subject)}\r\n",
        _folded("Date", [format_datetime(mail.date)]),
        _folded("Message-ID", [mail.message_id]),
        _folded("In-Reply-To", [mail.in_reply_to]) if mail.in_reply_to else "",
        _folded("References", mail.references) if mail.references else "",
        *(f"{name}: {value}\r\n" for name, value in AUTOMATIC),
        _folded("X-Loop", [mail.sender.address]),
        "MIME-Version: 1.0\r\n",
        _folded("Content-Type", ["multipart/alternative;", f'boundary="{boundary}"']),
    ]
    parts = (_part("plain", mail.text), _part("html", html_of(mail.text)))
    body = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts)
    return f"{''.join(headers)}\r\n{body}--{boundary}--\r\n".encode()


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text).strip()


def _encoded(name: str, text: str, charset: str = "utf-8") -> str:
    """Encode what people read, in words of at most 75 characters."""
    return Header(text, charset, maxlinelen=_LINE, header_name=name).encode(linesep="\r\n")


def _subject(text: str) -> str:
    text = _printable(text)
    is_plain = text.isascii() and "=?" not in text
    return _encoded("Subject", text, "us-ascii" if is_plain else "utf-8")


def _mailbox(header: str, who: Address) -> list[str]:
    name = " ".join(_printable(who.name[:_MAX_NAME]).split())
    words = name.split(" ")
    if not name:
        return [who.address]
    if not name.isascii() or "=?" in name or max(map(len, words)) > _LINE // 2:
        words = _encoded(header, name).split("\r\n ")
    elif _SPECIALS & set(name):
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        words = f'"{quoted}"'.split(" ")
    return [*words, f"<{who.address}>"]


def _folded(name: str, words: Iterable[str]) -> str:
    """Write a header of words that stay whole, each on a line of its own where it must be."""
    lines = [f"{name}:"]
    for word in words:
        first = len(lines[-1]) == len(name) + 1
        if len(lines[-1]) + len(word) >= (_MAX_LINE if first else _LINE):
            lines.append("")
        # What follows a line break would be a header of its own.
        lines[-1] += f" {word if word.isprintable() else ' '.join(word.split())}"
    return "\r\n".join(lines) + "\r\n"


def _part(kind: str, text: str) -> str:
    data = text.replace("\r\n", "\n").encode("utf-8", "replace")
    if sum(byte > 127 for byte in data) > len(data) * _MOSTLY:  # noqa: PLR2004
        encoding, written = "base64", _base64(data)
    else:
        encoding, written = "quoted-printable", encodestring(data).replace(b"\n", b"\r\n")
    return (
        f'Content-Type: text/{kind}; charset="utf-8"\r\n'
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n{written.decode('ascii')}"
    )


def _base64(data: bytes) -> bytes:
    encoded = b64encode(data)
    return b"\r\n".join(encoded[at : at + _LINE] for at in range(0, len(encoded), _LINE)) + b"\r\n"


def html_of(text: str) -> str:
    """Return simple HTML. Markup in the text is shown and not used; pictures are links."""
    return f"<!DOCTYPE html>\n<html><body>\n{_markdown().render(text)}</body></html>\n"


@cache
def _markdown() -> MarkdownIt:
    return (
        MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table").disable("image")
    )
