"""A person's mail programs: each answers in its own way, and quotes what there was."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import formatdate
from html import escape
from typing import Literal

from tests.support.mails import OURS

PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63000100"
    "000500010d0a2db40000000049454e44ae426082"
)
Chain = Literal["whole", "none"]
"""Of References: some programs and relays leave them out."""


@dataclass
class Person:
    """Somebody who writes to us, with all mails of the thread as their program has them."""

    address: str
    subject: str
    mails: list[bytes] = field(default_factory=list)
    """Theirs and ours, in order."""
    texts: list[tuple[str, str]] = field(default_factory=list)
    """Of each mail: who has written it, and its text."""

    def got(self, raw: bytes) -> None:
        """Keep a mail of ours as it arrived."""
        self.mails.append(raw)
        body = message_from_bytes(raw, policy=policy.default).get_body(("plain",))
        assert body is not None
        self.texts.append((OURS, body.get_content().strip()))

    def asks(self, text: str, *files: tuple[str, str, bytes]) -> bytes:
        """Write the first mail. `files`: name, content type, bytes."""
        return self._written(text, None, "whole", files, text)

    def answers(self, text: str, style: "Style", *, chain: Chain = "whole") -> bytes:
        """Answer the newest mail."""
        plain, html = style(text, self.texts)
        return self._written(plain, html, chain, (), text)

    def _written(
        self,
        plain: str,
        html: str | None,
        chain: Chain,
        files: Sequence[tuple[str, str, bytes]],
        text: str,
    ) -> bytes:
        mail = EmailMessage(policy.SMTP)
        mail["From"], mail["To"], mail["Date"] = self.address, OURS, formatdate()
        mail["Message-ID"] = f"<{len(self.mails)}.{self.address}>"
        mail["Subject"] = self.subject
        if self.mails:
            answered = message_from_bytes(self.mails[-1])
            mail.replace_header("Subject", f"Re: {self.subject}")
            mail["In-Reply-To"] = answered["Message-ID"]
            if chain == "whole":
                before = answered["References"] or answered["In-Reply-To"] or ""
                mail["References"] = f"{before} {answered['Message-ID']}".strip()
        mail.set_content(plain)
        if html is not None:
            mail.add_alternative(html, subtype="html")
        for name, content_type, data in files:
            kind, _, subtype = content_type.partition("/")
            mail.add_attachment(data, maintype=kind, subtype=subtype, filename=name)
        self.texts.append((self.address, text))
        self.mails.append(mail.as_bytes())
        return self.mails[-1]


Style = Callable[[str, Sequence[tuple[str, str]]], tuple[str, str | None]]
"""Of a new text and the thread so far: the plain text, and the HTML beside it."""


def outlook(text: str, before: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Write above the whole history, in both forms."""
    plain, html = text, f"<div>{_lines(text)}</div>"
    for who, said in reversed(before):
        head = f"From: {who}\nSent: Monday, November 30, 2026 10:00\nTo: {OURS}\nSubject: Order"
        plain += f"\n\n-----Original Message-----\n{head}\n\n{said}"
        html += f'<div id="divRplyFwdMsg"><hr>{_lines(head)}</div><div>{_lines(said)}</div>'
    return plain, f"<html><body>{html}</body></html>"


def below(text: str, before: Sequence[tuple[str, str]]) -> tuple[str, None]:
    """Write below the quoted mail, as Thunderbird does."""
    return f"{_attribution(before)}\n{_quoted(before[-1][1])}\n\n{text}", None


def bare(text: str, before: Sequence[tuple[str, str]]) -> tuple[str, None]:
    """Write above the mail, which nothing marks as quoted, as some telephones do."""
    return f"{text}\n\nHelp, 30.11.2026:\n\n{before[-1][1]}", None


def between(text: str, before: Sequence[tuple[str, str]]) -> tuple[str, None]:
    """Write each line below a line of the quoted mail."""
    asked = before[-1][1].splitlines()
    pairs = zip(asked, text.splitlines(), strict=False)
    body = "\n\n".join(f"{_quoted(one)}\n\n{answer}" for one, answer in pairs)
    return f"{_attribution(before)}\n\n{body}", None


def _attribution(before: Sequence[tuple[str, str]]) -> str:
    return f"On Mon, 30 Nov 2026 at 10:00, Help <{before[-1][0]}> wrote:"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def _lines(text: str) -> str:
    return "<br>".join(escape(line) for line in text.splitlines())
