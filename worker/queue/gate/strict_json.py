"""Reads JSON as RFC 8259 defines it. Python's reader accepts more, and deep input ends its stack.

kombu's `{"__type__": …, "__value__": …}` has no special meaning here: it would turn a stranger's
JSON into Python values, or into an exception.
"""

import json
import math
from typing import Any, NoReturn

from worker.envelope.wire import MAX_DEPTH, is_deeper


class TooDeepError(ValueError):
    """Nested deeper than `MAX_DEPTH`."""


def loads(text: str) -> Any:  # noqa: ANN401 - JSON
    """Raise ValueError for anything but JSON. Its message may quote the text: never show it."""
    # Python's own limit depends on how deep the caller's stack is, so depth is measured first.
    if is_deeper(text, MAX_DEPTH):
        raise TooDeepError
    return _DECODER.decode(text)


def _finite(digits: str) -> float:
    number = float(digits)
    # `float("1e999")` is infinity, which Postgres's jsonb refuses.
    if math.isinf(number):
        raise ValueError("not a finite number")
    return number


def _refuse(_constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)
