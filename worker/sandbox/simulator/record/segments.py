"""How many parts a text message has: GSM 03.38 if possible, else UCS-2.

Numbers: Telnyx's page on encoding: 160 or 153 a part in GSM-7, 70 or 67 in UCS-2.
"""

from dataclasses import dataclass
from typing import Literal

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_DOUBLE = frozenset("^{}\\[~]|€\f")
"""Each counts as two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """The encoding of a text as Telnyx names it, and its parts; 1 for an empty text."""

    encoding: Literal["GSM-7", "UCS-2"]
    parts: int


def segments(text: str) -> Segments:
    """Count the parts."""
    if all(letter in _BASIC or letter in _DOUBLE for letter in text):
        units = sum(2 if letter in _DOUBLE else 1 for letter in text)
        return Segments(encoding="GSM-7", parts=_parts(units, 160, 153))
    units = len(text.encode("utf-16-le", "surrogatepass")) // 2
    return Segments(encoding="UCS-2", parts=_parts(units, 70, 67))


def _parts(units: int, alone: int, split: int) -> int:
    return 1 if units <= alone else -(-units // split)
