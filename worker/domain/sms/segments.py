"""How many parts a text message has, as carriers count them.

3GPP TS 23.038 defines the alphabets: 6.2.1 the table, 6.2.1.1 its extension. A part has 140 octets:
160 septets or 70 UCS-2 units. Of a longer message each part starts with a header of 6 octets
(TS 23.040, 9.2.3.24.1), which leaves 153 or 67. No part ends inside an escape sequence or a
surrogate pair, so a message can have more parts than a division says.

Telnyx's page on message encoding names the encoding of each kind of sender: short codes send ASCII,
everybody else GSM-7; one other character, and the whole message is UCS-2.
"""

from dataclasses import dataclass
from typing import Final, Literal

GSM_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_EXTENSION: Final = frozenset("^{}\\[~]|€\f")
"""An escape and a second septet each."""
UNCERTAIN: Final = frozenset("Ç¤ΔΦΓΛΩΠΨΣΘΞ\f")
"""In the standard's tables, but not in Telnyx's list of what it keeps in GSM-7: counted as UCS-2,
which never has fewer parts."""
MAX_PARTS: Final = 10
"""Telnyx refuses a message with more: error 40302."""

_WIDTHS: Final = {
    **dict.fromkeys(GSM_BASIC - UNCERTAIN, 1),
    **dict.fromkeys(GSM_EXTENSION - UNCERTAIN, 2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """The encoding of a text as Telnyx names it, and its parts; 1 for an empty text."""

    encoding: Literal["GSM-7", "ASCII-7", "UCS-2"]
    parts: int


def segments(text: str, *, short_code: bool = False) -> Segments:
    """Count the parts; `short_code`: the sender is one."""
    if short_code and text.isascii():
        return Segments(encoding="ASCII-7", parts=_parts([1] * len(text), 160, 153))
    if not short_code and all(letter in _WIDTHS for letter in text):
        widths = [_WIDTHS[letter] for letter in text]
        return Segments(encoding="GSM-7", parts=_parts(widths, 160, 153))
    widths = [2 if letter > "\uffff" else 1 for letter in text]
    return Segments(encoding="UCS-2", parts=_parts(widths, 70, 67))


def _parts(widths: list[int], alone: int, each: int) -> int:
    if sum(widths) <= alone:
        return 1
    parts, used = 1, 0
    for width in widths:
        used += width
        if used > each:
            parts, used = parts + 1, width
    return parts
