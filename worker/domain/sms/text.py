"""A reply as plain text for a phone: prepared, then cut or split so that it fits.

    prepare  no Markdown, no typography and nothing invisible, which would make the text UCS-2
    cut      shorten: after a sentence or else a word, with a mark at the end
    split    several messages, numbered, each of which fits

What fits is the caller's: `within_parts` for SMS, another rule for another channel. A text that
fits must fit as well after its end is taken away.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable
from typing import Final, TypeAlias

from worker.domain.sms.markdown import to_plain
from worker.domain.sms.segments import segments
from worker.domain.text.graphemes import cluster_ends
from worker.domain.text.normal_forms import normalized

Fits: TypeAlias = Callable[[str], bool]

MARK: Final = "..."
MAX_PIECES: Final = 9
"""With one digit each number is the same length."""
_REACH: Final = 5000
"""Characters; more fit into no message of any channel."""
_PASSES: Final = 10
"""Nested markup deeper than this stays."""

_TYPOGRAPHY: Final = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u2032\u2039\u203a\u00b4`", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2022", "-")
    | dict.fromkeys("\u00a0\u202f\u205f\u3000\t" + "".join(map(chr, range(0x2000, 0x200B))), " ")
    | dict.fromkeys("\r\v\f\u0085\u2028\u2029", "\n")
    | {"\u2026": "...", "\u00d7": "x", "\u2192": "->", "\u2190": "<-", "\u2264": "<="}
    | {"\u2265": ">=", "\u00bd": "1/2", "\u00bc": "1/4", "\u00be": "3/4"}
    | {"\u2122": "(TM)", "\u00a9": "(C)", "\u00ae": "(R)"}
)
_FRACTION: Final = re.compile(r"(?<=\d)(?=[\u00bc-\u00be])")
_INVISIBLE: Final = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u180e\u200b\u2060-\u2064\ufeff]"
    # Joiners, and the variants of emoji, mean something only between characters of UCS-2.
    r"|(?<![\u0300-\U0010ffff])[\u200c\u200d]|[\u200c\u200d](?![\u0300-\U0010ffff])"
    r"|(?<=[\x00-\x7f])[\ufe0e\ufe0f](?!\u20e3)"
)
_DIRECTIONS: Final = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_WIDE: Final = re.compile(r"(?<![ ])[ ]+(?=\n|\Z)|(?<=\S)[ ]+(?=[ ])|(?<=\n\n)\n+")
_SENTENCES: Final = re.compile(
    r"(?:(?<=[.!?])|(?<=[.!?][\"')\]]))\s+"
    r"|(?<=[\u3002\uff01\uff1f])(?![\u300d\u300f\uff09])\s*|\n\s*"
)
_WORDS: Final = re.compile(r"\s+")


def within_parts(most: int, *, short_code: bool = False) -> Fits:
    """Fit into this many parts; `short_code`: the sender is one."""
    return lambda text: segments(text, short_code=short_code).parts <= most


def prepare(text: str) -> str:
    """Return the text as it goes to a phone, not cut yet; empty if nothing of it is left."""
    for _ in range(_PASSES):
        before, text = text, _prepare(text)
        if text == before:
            break
    return text


def _prepare(text: str) -> str:
    text = to_plain(normalized("NFC", text).replace("\r\n", "\n"))
    text = _INVISIBLE.sub("", _FRACTION.sub(" ", text).translate(_TYPOGRAPHY))
    if _DIRECTIONS.search(text) and not _has_right_to_left(text):
        text = _DIRECTIONS.sub("", text)
    return _WIDE.sub("", text).strip()


def cut(text: str, fits: Fits) -> str:
    """Return the text, or as much of its beginning as fits with the mark."""
    if fits(text):
        return text
    kept = text[: _place(text, lambda piece: fits(f"{piece} {MARK}"))[0]]
    return kept + (f" {MARK}" if kept.endswith((".", "!", "?")) else MARK)


def split(text: str, fits: Fits) -> tuple[str, ...]:
    """Return the text, or its pieces in order, each of which fits with its number.

    Only white space is lost between pieces. The last one is cut if there would be too many.
    """
    if fits(text):
        return (text,)
    pieces: list[str] = []
    while len(pieces) < MAX_PIECES - 1 and not _numbered(text, fits):
        end, start = _place(text, lambda piece: _numbered(piece, fits))
        pieces.append(text[:end])
        text = text[start:]
    pieces.append(cut(text, lambda piece: _numbered(piece, fits)))
    return tuple(f"({number}/{len(pieces)}) {piece}" for number, piece in enumerate(pieces, 1))


def _numbered(piece: str, fits: Fits) -> bool:
    return fits(f"(1/1) {piece}")


def _place(text: str, fits: Fits) -> tuple[int, int]:
    """Find where to cut a text that is too long: the end of the first piece, the next one's start.

    After a sentence or else a word, if that keeps half of what fits; else between two characters.
    """
    text = text[:_REACH]
    ends = list(cluster_ends(text))
    if not fits(text[: ends[0]]):  # one letter with more marks than a message holds
        ends = list(range(1, len(text)))
    most = ends[bisect_left(ends, 1, key=lambda end: int(not fits(text[:end]))) - 1]
    allowed = {*ends}
    for gaps in (_SENTENCES, _WORDS):
        found = [gap.span() for gap in gaps.finditer(text, most // 2, most + 1)]
        clean = [span for span in found if span[0] <= most and allowed.issuperset(span)]
        if clean:
            return clean[-1]
    return most, most


def _has_right_to_left(text: str) -> bool:
    return any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)
