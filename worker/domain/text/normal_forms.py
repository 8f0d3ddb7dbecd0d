"""Normal forms of foreign text, in time that grows with its length alone.

Normalising sorts the marks on a letter, in time that grows with the square of their number: 64 KB
of them, one message, would hold the whole process up for seconds.
"""

import unicodedata
from itertools import groupby, islice
from typing import Final, Literal

MAX_MARKS: Final = 30
"""More on one letter than any language writes (UAX 15, Stream-Safe Text Format)."""
BECOME_MARKS: Final = "\u0f73\u0f75\u0f81\uff9e\uff9f"
"""No marks themselves, but normalising makes marks of them."""
_FEW: Final = 256
"""Characters whose marks are sorted in no time, however many they are."""


def normalized(form: Literal["NFC", "NFKC"], text: str) -> str:
    """Return a normal form; marks on one letter beyond `MAX_MARKS` are dropped."""
    if len(text) > _FEW and not text.isascii():
        text = "".join(
            one
            for is_mark, run in groupby(text, _is_mark)
            for one in (islice(run, MAX_MARKS) if is_mark else run)
        )
    return unicodedata.normalize(form, text)


def same_text(one: str, other: str) -> bool:
    """Compare as Telnyx may have stored it: after NFKC and casefold, without space and controls."""
    return one == other or folded(one) == folded(other)


def folded(text: str) -> str:
    """Return the form that `same_text` compares."""
    # Telnyx may normalise letter forms and space; such a message must not count as foreign.
    folded = normalized("NFKC", text).casefold()
    return "".join(
        char for char in folded if not char.isspace() and unicodedata.category(char)[0] != "C"
    )


def _is_mark(character: str) -> bool:
    return unicodedata.combining(character) > 0 or character in BECOME_MARKS
