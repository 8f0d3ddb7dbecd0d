"""JSON as RFC 8259 has it and Postgres can store it: Python's reader takes more, and dies of some.

Also without kombu's `{"__type__": …, "__value__": …}`, which turns JSON of a stranger into Python
values or an exception.
"""

import json
import math
import re
from typing import Any, NoReturn

MAX_DEPTH = 64
"""Lists and objects inside each other. An envelope has 5; Python's limit depends on the caller."""

_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


class TooDeepError(ValueError):
    """More than `MAX_DEPTH` inside each other."""


def loads(text: str) -> Any:  # noqa: ANN401 - JSON
    """Raise ValueError for what is not JSON; its message may quote the text: never show it."""
    # Counting costs nothing, walking does: only a text with many brackets is walked.
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise TooDeepError
    return _DECODER.decode(text)


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


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):  # 1e999
        raise ValueError("not a finite number")
    return number


def _refuse(_constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)
