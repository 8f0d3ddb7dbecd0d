"""Reads JSON that strangers wrote: the one reader for all ways in.

Strict as RFC 8259, in bounded depth, and in time and memory that grow with the length alone. Its
errors hold fixed words, never a piece of the text.
"""

import json
import math
import re
from array import array
from itertools import accumulate
from typing import Any, Final, NoReturn

from message_worker_client.envelope.storable import is_storable, may_be_unstorable
from message_worker_client.envelope.wire import MAX_DEPTH, MAX_VALUES

_BRACKETS: Final = b"[{]}"
_OTHERS: Final = bytes(set(range(256)) - set(_BRACKETS))
_STEPS: Final = bytes.maketrans(_BRACKETS, b"\x01\x01\xff\xff")
"""To signed bytes: 1 for each bracket that opens, -1 for each that closes."""


class JsonRefusedError(ValueError):
    """Not JSON that we take. `fault`: `not_text`, or the slug of a dead letter's reason."""

    def __init__(self, fault: str, words: str) -> None:
        super().__init__(words)
        self.fault = fault


def read_json(data: bytes, *, max_bytes: int | None = None, max_depth: int = MAX_DEPTH) -> Any:  # noqa: ANN401 - JSON
    """Return the value of UTF-8 JSON. Raises `JsonRefusedError`, and nothing else.

    kombu's `{"__type__": …, "__value__": …}` has no special meaning here: it would turn a
    stranger's JSON into Python values, or into an exception.
    """
    if max_bytes is not None and len(data) > max_bytes:
        raise JsonRefusedError("too_large", f"{len(data)} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        # `from None`, here and below: the original error quotes the bytes.
        raise JsonRefusedError("not_text", "not UTF-8") from None
    check_shape(data, max_depth)
    try:
        value = _DECODER.decode(text)
    except ValueError:
        raise JsonRefusedError("not_json", "not JSON") from None
    if may_be_unstorable(text) and not is_storable(value):
        raise JsonRefusedError("not_storable", "NUL or lone surrogate")
    return value


def check_shape(data: bytes, max_depth: int) -> None:
    """Raise `JsonRefusedError` for JSON that is nested too deep, or of too many values."""
    # Python's own limit depends on the depth of the caller's stack. And a value takes up to 30
    # times the memory of its text, such as an empty object.
    opened = data.count(b"[") + data.count(b"{")
    if opened <= max_depth and data.count(b",") < MAX_VALUES:
        return
    # Each is one pass over the whole. Without the escapes every quote begins or ends a string, so
    # `_STRING` never goes back: a pattern with the escapes in it looks for the end of a string that
    # has none again from each quote in it.
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > _MAX_QUOTES:
        raise JsonRefusedError("too_large", _TOO_MANY)
    outside = _STRING.sub(b"", bare)
    opened = outside.count(b"[") + outside.count(b"{")
    if opened + outside.count(b",") >= MAX_VALUES:
        raise JsonRefusedError("too_large", _TOO_MANY)
    if outside.count(b"]") + outside.count(b"}") > opened:
        raise JsonRefusedError("not_json", "not JSON")
    if opened > max_depth:
        steps = array("b", outside.translate(_STEPS, _OTHERS))
        if max(accumulate(steps)) > max_depth:
            raise JsonRefusedError("too_deep", "nested too deep")


_STRING: Final = re.compile(rb'"[^"]*+"?')
_TOO_MANY: Final = f"more than {MAX_VALUES} values"
_MAX_QUOTES: Final = 4 * MAX_VALUES
"""A value may be a string, and may have a key."""


def _finite(digits: str) -> float:
    number = float(digits)
    # `float("1e999")` is infinity, which Postgres's jsonb refuses.
    if math.isinf(number):
        raise ValueError("not a finite number")
    return number


def _refuse(_constant: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)
