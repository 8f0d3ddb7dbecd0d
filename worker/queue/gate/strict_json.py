"""JSON as RFC 8259 has it and Postgres can store it: Python's reader takes more, and dies of some.

Also without kombu's `{"__type__": …, "__value__": …}`, which turns JSON of a stranger into Python
values or an exception.
"""

import json
import math
from typing import Any, NoReturn

from worker.envelope.wire import MAX_DEPTH, is_deeper


class TooDeepError(ValueError):
    """More than `MAX_DEPTH` inside each other."""


def loads(text: str) -> Any:  # noqa: ANN401 - JSON
    """Raise ValueError for what is not JSON; its message may quote the text: never show it."""
    if is_deeper(text, MAX_DEPTH):
        raise TooDeepError
    return _DECODER.decode(text)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):  # 1e999
        raise ValueError("not a finite number")
    return number


def _refuse(_constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)
