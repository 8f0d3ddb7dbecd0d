"""Where a text may be cut: between the characters that a reader sees (UAX 29, grapheme clusters).

The standard library lacks the property, so it is derived from the general category. It joins a
little more than the standard does, e.g. anything after a zero-width joiner; rarely less: a prefix
of Arabic numbers and Old Hangul.
"""

import unicodedata
from collections.abc import Iterator
from itertools import pairwise

_ZWJ = "\u200d"
_EXTENDING = frozenset("\u200c\u200d\u0e33\u0eb3\uff9e\uff9f")
"""Extend the character before them although they are no marks."""
_VIRAMA = 9
"""The combining class of what links two letters of an Indic script, with marks between or not."""


def cluster_ends(text: str) -> Iterator[int]:
    """Yield the index at which each cluster ends."""
    flags, linked = 0, False
    for index, (before, letter) in enumerate(pairwise(text), 1):
        flags = flags + 1 if _is_flag(before) else 0
        joined = _extends(letter) or linked or _joined(before, letter, half_flag=flags % 2 == 1)
        linked = _extends(letter) and (linked or unicodedata.combining(letter) == _VIRAMA)
        if not joined:
            yield index
    if text:
        yield len(text)


def _extends(letter: str) -> bool:
    return not letter.isascii() and (
        unicodedata.category(letter)[0] == "M"
        or letter in _EXTENDING
        or "\U0001f3fb" <= letter <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= letter <= "\U000e007f"  # tags: the flag of Scotland
    )


def _joined(before: str, letter: str, *, half_flag: bool) -> bool:
    return (
        (before == "\r" and letter == "\n")
        or before == _ZWJ
        or (half_flag and _is_flag(letter))
        or (_is_leading(before) and (_is_leading(letter) or _is_syllable(letter)))
        # A vowel or final of Hangul, after any part of it.
        or (
            "\u1160" <= letter <= "\u11ff"
            and ("\u1100" <= before <= "\u11ff" or _is_syllable(before))
        )
    )


def _is_flag(letter: str) -> bool:
    return "\U0001f1e6" <= letter <= "\U0001f1ff"


def _is_leading(letter: str) -> bool:
    return "\u1100" <= letter <= "\u115f"


def _is_syllable(letter: str) -> bool:
    return "\uac00" <= letter <= "\ud7a3"
