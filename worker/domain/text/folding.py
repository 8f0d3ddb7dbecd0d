"""The form of a text in which it is compared: without case, accents, ornaments and tricks."""

import re
import unicodedata
from functools import cached_property
from typing import Final, NamedTuple

MAX_FOLDED: Final = 1600
"""Characters of a message that are looked at: ten parts of a long text message."""
_LONGEST_KEYWORD: Final = 64
"""Of a message that is a keyword, with punctuation around it."""
_A_TO_Z: Final = "abcdefghijklmnopqrstuvwxyz"
_FILLERS: Final = "\u115f\u1160\u3164\uffa0"
"""Letters by their category, and invisible."""
# Unicode has no compatibility form for these; it has one for full width, script, and circles.
_STYLED: Final = {
    **{ord(one): None for one in _FILLERS + "'\u2018\u2019`\u00b4"},
    **{
        start + at: letter
        for start in (0x1F150, 0x1F170, 0x1F1E6)  # white on black, and the letters of flags
        for at, letter in enumerate(_A_TO_Z)
    },
    **dict(zip(map(ord, "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ"), "abcdefghijklmnoprstuvwyz", strict=True)),
    **dict(zip(map(ord, "ıłđø"), "ildo", strict=True)),
}
_ENDS: Final = re.compile(r"([^.!?;,\n\u3002\uff01\uff1f\uff0c\u0964]*)([.!?;,\n\u3002\u0964]?)")
_DASH: Final = re.compile(r" [-\u2013\u2014] ")
_WORD: Final = re.compile(r"[^\W_]+")


class Clause(NamedTuple):
    """A part of a text up to a punctuation mark."""

    words: tuple[str, ...]
    end: str
    quoted: bool
    """It begins with a quotation mark: somebody else's words."""


def fold(text: str) -> str:
    """Return the text without case, accents, invisible characters and styled letters."""
    if text.isascii():
        return text.casefold().replace("'", "").replace("`", "")
    text = unicodedata.normalize("NFKD", text.translate(_STYLED)).casefold()
    text = unicodedata.normalize("NFKD", text).translate(_STYLED)
    return "".join(one for one in text if one.isascii() or not _is_invisible(one))


def _is_invisible(one: str) -> bool:
    """Whether it is an accent, a vowel sign, or a character without width."""
    category = unicodedata.category(one)
    return category[0] == "M" or category == "Cf"


class Folded:
    """A folded message, and the parts of it that rules compare."""

    def __init__(self, text: str) -> None:
        self.text = fold(text[:MAX_FOLDED])
        self.is_whole = len(text) <= MAX_FOLDED

    @cached_property
    def flat(self) -> str:
        """On one line, without space around it."""
        return " ".join(self.text.split())

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All words, without punctuation and emoji."""
        return tuple(_WORD.findall(self.text))

    @cached_property
    def phrase(self) -> str:
        """The words, joined; single letters are one word: `s t o p`. Empty for a long text."""
        if len(self.flat) > _LONGEST_KEYWORD:
            return ""
        if len(self.words) > 1 and all(len(word) == 1 for word in self.words):
            return "".join(self.words)
        return " ".join(self.words)

    @cached_property
    def clauses(self) -> tuple[Clause, ...]:
        """The parts between punctuation marks that have a word."""
        found = []
        for part, end in _ENDS.findall(_DASH.sub(", ", self.text)):
            words = tuple(_WORD.findall(part.replace("#", " number ")))
            if words:
                quoted = part.lstrip()[0] in '"\u201c\u201e\u00ab'
                found.append(Clause(words, end, quoted))
        return tuple(found)
