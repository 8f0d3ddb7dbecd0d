"""Which texts Postgres can store: those without a NUL and without half of a surrogate pair.

`text` and `jsonb` refuse a NUL, and UTF-8 has no form for a lone surrogate. JSON can spell both.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_ESCAPE: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


def is_storable(value: object) -> bool:
    """Return whether Postgres can hold all texts of a JSON value; keys count too."""
    # Most texts are ASCII, and `isascii` reads a flag of the string instead of its characters.
    return all(
        "\x00" not in text and (text.isascii() or not _UNSTORABLE.search(text))
        for text in texts(value)
    )


def may_be_unstorable(document: str) -> bool:
    """Return False for JSON whose value is storable for sure, without a walk through the value.

    `document` was UTF-8 and has been parsed: only an escape can spell what is looked for.
    """
    return _ESCAPE.search(document) is not None


def replace_unstorable(text: str, by: str) -> str:
    """Return the text with `by` in place of each character that Postgres cannot store."""
    return _UNSTORABLE.sub(by, text)


def texts(value: object) -> Iterator[str]:
    """Yield all texts of a JSON value, keys too, in no order."""
    # A list of what is left, and no recursion: a value may be nested deeper than the stack allows.
    left = [value]
    while left:
        match left.pop():
            case str() as text:
                yield text
            case Mapping() as fields:
                yield from map(str, fields)
                left.extend(fields.values())
            case list() as items:
                left.extend(items)
            case _:
                pass
