"""JSON as RFC 8259 has it and Postgres can store it: Python's reader takes more, and dies of some.

Also without kombu's `{"__type__": …, "__value__": …}`, which turns JSON of a stranger into Python
values or an exception.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

MAX_DEPTH = 64
"""Lists and objects inside each other. An envelope has 5; Python's limit depends on the caller."""

_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


class TooDeepError(ValueError):
    """More than `MAX_DEPTH` inside each other."""


def loads(text: str) -> Any:  # noqa: ANN401 - JSON
    """Raise ValueError for what is not JSON; its message may quote the text: never show it."""
    # Counting costs nothing, walking does: only a text with many brackets is walked.
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise TooDeepError
    return _DECODER.decode(text)


def holds_unstorable(text: str, value: Any) -> bool:  # noqa: ANN401 - JSON
    """Look for a NUL or half of a surrogate pair in the strings of `value`, read from `text`.

    Postgres refuses the first in text and jsonb, UTF-8 has no form for the second.
    """
    return _SUSPECT.search(text) is not None and any(map(_unstorable, _strings(value)))


def _depth(text: str) -> int:
    deepest = depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        first = token[0][0]
        if first in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in "]}":
            depth -= 1
    return deepest


def _strings(value: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())


def _unstorable(text: str) -> bool:
    return any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):  # 1e999
        raise ValueError("not a finite number")
    return number


def _refuse(_constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)
