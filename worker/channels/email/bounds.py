"""Cuts what is large out of a mail before it is parsed: the parser costs ten bytes for each one."""

import re
from typing import Final

MAX_MAIL: Final = 64 * 1024 * 1024
"""Bytes of one mail; what is behind them is not looked at."""
SMALL: Final = 2 * 1024 * 1024
"""Bytes that are parsed as they are, and the most that is ever parsed."""
MAX_WHOLE: Final = 900 * 1024
"""Bytes of base64 that stay whole: a picture of this size still fits into an envelope."""
HEAD: Final = 128 * 1024
"""Bytes that stay of longer base64; a text of this length is cut anyway."""
MAX_HEADERS: Final = 256 * 1024
_BASE64: Final = re.compile(rb"(?m)^(?:[A-Za-z0-9+/=]{16,998}+\r?\n){16,}+")
CUT: Final = re.compile(r"\n~(\d{1,12}) bytes left out~(?:\r?\n|$)")
"""The mark in a part that was cut."""


def bounded(raw: bytes) -> tuple[bytes, bool]:
    """Return the mail in at most `SMALL` bytes, and whether something is missing."""
    head = re.search(rb"\r?\n\r?\n", raw[: MAX_HEADERS + 4])
    if head is None and len(raw) > MAX_HEADERS:
        raw = raw[:MAX_HEADERS]
    elif len(raw) <= SMALL:
        return raw, False
    kept = bytearray()
    at = 0
    for run in _BASE64.finditer(raw, 0, MAX_MAIL):
        kept += raw[at : min(run.start(), at + SMALL - len(kept))]
        at = run.end()
        length = run.end() - run.start()
        left = SMALL - len(kept)
        if length <= MAX_WHOLE and length * 2 <= left:
            kept += run[0]
        else:
            # Whole lines, so that base64 decodes; 4 characters are 3 bytes.
            stop = raw.find(b"\n", run.start() + min(HEAD, left // 4)) + 1
            kept += raw[run.start() : stop]
            kept += b"~%d bytes left out~\n" % ((run.end() - stop) * 3 // 4)
        if len(kept) >= SMALL:
            break
    kept += raw[at : at + max(0, SMALL - len(kept))]
    return bytes(kept[:SMALL]), True
