"""Values of headers, read so that a broken one costs itself only."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Final

from worker.channels.email.charsets import header_text
from worker.domain.email.mail import Address

MAX_VALUE: Final = 16 * 1024
"""Characters of one value; the rest is cut."""
MAX_VALUES: Final = 500
"""Headers of one mail; a mail that travelled far has 100."""
MAX_ADDRESSES: Final = 500
"""Of one header."""
MAX_ID: Final = 998
"""Bytes of a Message-ID: the longest line of RFC 5322. It is a part of a key in Postgres."""
MAX_IDS: Final = 100
MAX_ADDRESS: Final = 254
_FOLDED: Final = re.compile(r"\r?\n[ \t]*|\r")
_ID: Final = re.compile(r"<([^<>]{1,4000})>")
_SPACE: Final = re.compile(r"\s+")
_ATOM: Final = r"[^\s<>()\[\],;:@\"\\]"
_MAILBOX: Final = re.compile(rf"(?<!{_ATOM}){_ATOM}{{1,64}}@(?!\.){_ATOM}{{1,253}}")
_TOKEN: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|\\.|<([^<>]*)>|[(),;:]|[^"\\<(),;:]+|.', re.DOTALL)


def all_headers(items: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the headers as written, by name in lower case, unfolded and bounded."""
    found: dict[str, list[str]] = {}
    for name, value in list(items)[:MAX_VALUES]:
        found.setdefault(name.lower(), []).append(_FOLDED.sub(" ", str(value)[:MAX_VALUE]).strip())
    return {name: tuple(values) for name, values in found.items()}


def addresses(values: Iterable[str]) -> tuple[Address, ...]:
    """Return the addresses of a header, in order; whatever is none is left out."""
    found: list[Address] = []
    for value in values:
        for name, address in _mailboxes(value[:MAX_VALUE]):
            if _MAILBOX.fullmatch(address) and len(address) <= MAX_ADDRESS:
                local, _, domain = address.rpartition("@")
                found.append(Address(f"{local}@{domain.lower()}", header_text(name)))
    return tuple(found[:MAX_ADDRESSES])


def _mailboxes(value: str) -> Iterable[tuple[str, str]]:
    """Split a list of addresses at its commas: what is before the <> of each, and inside of it.

    The library's two parsers refuse a whole header for one bad address, or guess another one.
    """
    name: list[str] = []
    inside: str | None = None
    depth = 0
    for token in _TOKEN.finditer(f"{value},"):
        text = token[0]
        if text in "()":
            depth = max(0, depth + (1 if text == "(" else -1))
        elif depth:
            continue
        elif text in ",;":
            bare = "".join(name).strip()
            yield ("", header_text(bare)) if inside is None else (bare, header_text(inside).strip())
            name, inside = [], None
        elif text == ":":
            name = []  # the name of a group
        elif token[2] is not None:
            inside = token[2] if inside is None else inside
        else:
            name.append(text if token[1] is None else token[1].replace("\\", ""))


def ids(values: Iterable[str]) -> tuple[str, ...]:
    """Return the Message-IDs of a header, each once; of many, the first and the last ones."""
    found: dict[str, None] = {}
    for value in values:
        # A long id may be folded inside.
        inside = [_SPACE.sub("", one) for one in _ID.findall(value)]
        if not inside and "@" in value and not _SPACE.search(value.strip()):
            inside = [value.strip()]
        found.update((_short(f"<{one}>"), None) for one in inside if one)
    kept = list(found)
    return tuple(kept if len(kept) <= MAX_IDS else (kept[0], *kept[1 - MAX_IDS :]))


def _short(message_id: str) -> str:
    text = header_text(message_id)
    if len(text.encode()) <= MAX_ID:
        return text
    return f"<{sha256(message_id.encode('utf-8', 'surrogateescape')).hexdigest()}@long.invalid>"


def message_id(values: Iterable[str], raw: bytes) -> str:
    """Return the mail's id; without one, an id that only these bytes get."""
    return next(iter(ids(values)), f"<{sha256(raw).hexdigest()}@missing.invalid>")


def date(value: str) -> datetime | None:
    """Return when the mail was sent, as it says; None if it does not, or no calendar has it."""
    try:
        read = parsedate_to_datetime(value[:128])
        aware = read if read.tzinfo else read.replace(tzinfo=UTC)
        return aware if 1971 <= aware.astimezone(UTC).year < 9999 else None  # noqa: PLR2004
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def sender(headers: Mapping[str, tuple[str, ...]]) -> Address | None:
    """Return who wrote the mail."""
    found = addresses(headers.get("from", ())) or addresses(headers.get("sender", ()))
    return found[0] if found else None
