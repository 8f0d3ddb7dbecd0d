"""The parts of a mail: which of them are its text, and which are sent along.

multipart/alternative       the same text more than once: plain and HTML, both are kept
other multipart/*           one after the other
message/rfc822              an attachment, whatever is inside
text/* with a file name     an attachment
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.message import Message
from itertools import chain
from typing import Final, TypeAlias

from worker.channels.email.bounds import CUT
from worker.channels.email.charsets import header_text, to_text
from worker.domain.email.mail import Attachment

Part: TypeAlias = "Message[str, str]"

MAX_TEXT: Final = 256 * 1024
"""Bytes of one text that are decoded; HTML is mostly markup."""
MAX_DEPTH: Final = 30
MAX_PICTURES: Final = 640 * 1024
"""Bytes of all pictures together: as base64, they leave room in an envelope for the text."""
MAX_ATTACHMENTS: Final = 50
_MAX_NAME: Final = 255
_MAX_TYPE: Final = 100
_PICTURES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_PLAIN: Final = frozenset({"text/plain", "text/markdown", "text/enriched", "text/richtext"})
_ENCRYPTED: Final = frozenset({"multipart/encrypted", "application/pkcs7-mime"})
_METHOD: Final = re.compile(r"(?im)^METHOD:")
_META: Final = re.compile(rb"(?i)<meta[^<>]{0,200}charset=[\"']?([\w-]{1,40})")


@dataclass(frozen=True, slots=True)
class Block:
    """One text, in one form or in two."""

    plain: str = ""
    html: str = ""


@dataclass(slots=True)
class Contents:
    """What the parts of one mail hold."""

    blocks: list[Block] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    types: set[str] = field(default_factory=set)
    calendar: bool = False
    cut: set[str] = field(default_factory=set)
    pictures_left: int = MAX_PICTURES

    @property
    def encrypted(self) -> bool:
        """Whether all there is to read is encrypted."""
        return bool(self.types & _ENCRYPTED) and not any(
            one.plain.strip() or one.html.strip() for one in self.blocks
        )


def contents(message: Part) -> Contents:
    """Walk through the parts of a mail."""
    found = Contents()
    found.blocks = list(_texts(message, found, depth=0))
    return found


def _texts(part: Part, found: Contents, *, depth: int) -> Iterable[Block]:
    kind = part.get_content_type()
    found.types.add(kind)
    if kind.startswith("multipart/") and part.is_multipart():
        if depth > MAX_DEPTH:
            found.cut.add("depth")
            return
        children = [one for one in part.get_payload() if isinstance(one, Message)]
        forms = [list(_texts(one, found, depth=depth + 1)) for one in children]
        if kind == "multipart/alternative":
            plain = (_joined(one.plain for one in form) for form in forms)
            html = (_joined(one.html for one in form) for form in forms)
            yield Block(next(filter(None, plain), ""), next(filter(None, html), ""))
        else:
            yield from chain.from_iterable(forms)
    elif kind == "text/calendar" and part.get_content_disposition() != "attachment":
        found.calendar |= bool(part.get_param("method") or _METHOD.search(_decoded(part, found)))
    # A multipart whose boundary never comes is a text, too.
    elif kind in _PLAIN or kind.startswith("multipart/"):
        if _is_text(part, depth):
            yield Block(plain=_unflowed(part, _decoded(part, found)))
        else:
            _attach(part, kind, found)
    elif kind == "text/html" and _is_text(part, depth):
        yield Block(html=_decoded(part, found))
    else:
        _attach(part, kind, found)


def _joined(texts: Iterable[str]) -> str:
    return "\n".join(one for one in texts if one.strip())


def _is_text(part: Part, depth: int) -> bool:
    attached = part.get_content_disposition() == "attachment" or part.get_filename()
    return depth == 0 or not attached


def _decoded(part: Part, found: Contents) -> str:
    payload = part.get_payload()
    if isinstance(payload, str) and CUT.search(payload):
        found.cut.add("text")
        part.set_payload(CUT.sub("\n", payload))
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    if len(data) > MAX_TEXT:
        found.cut.add("text")
        data = data[:MAX_TEXT]
    charset = part.get_param("charset")
    if isinstance(charset, tuple):
        charset = charset[2]
    if not charset and (meta := _META.search(data, 0, 2048)):
        charset = meta[1].decode()
    text = to_text(data, str(charset or ""))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _unflowed(part: Part, text: str) -> str:
    """Join the lines that format=flowed has broken, see RFC 3676."""
    if str(part.get_param("format") or "").lower() != "flowed":
        return text
    space = "" if str(part.get_param("delsp") or "").lower() == "yes" else " "
    lines: list[str] = []
    open_quote: str | None = None
    for line in text.split("\n"):
        quote = line[: len(line) - len(line.lstrip(">"))]
        body = line[len(quote) :].removeprefix(" ")
        flows = body.endswith(" ") and body != "-- "
        body = body[:-1] + space if flows else body
        if open_quote == quote and body != "-- ":
            lines[-1] += body
        else:
            lines.append(f"{quote} {body}" if quote else body)
        open_quote = quote if flows else None
    return "\n".join(lines)


def _attach(part: Part, kind: str, found: Contents) -> None:
    """Note a part that is sent along."""
    if len(found.attachments) == MAX_ATTACHMENTS:
        found.cut.add("attachments")
        return
    payload = part.get_payload()
    data: bytes | None = None
    size = 0
    if isinstance(payload, str) and (cut := CUT.search(payload)):
        size = len(payload) * 3 // 4 + int(cut[1])
    elif isinstance(payload, str):
        decoded = part.get_payload(decode=True)
        data = decoded if isinstance(decoded, bytes) else b""
        size = len(data)
    if data is not None and kind in _PICTURES and 0 < size <= found.pictures_left:
        found.pictures_left -= size
    else:
        data = None
    name = header_text(str(part.get_filename() or ""))[:_MAX_NAME]
    kind = header_text(kind)[:_MAX_TYPE] or "application/octet-stream"
    found.attachments.append(Attachment(name=name, content_type=kind, size=size, data=data))
