"""How the parts of Telnyx's answers are read: defensively, without judging their meaning.

Nothing here raises on what came over the wire, and nothing that leaves here can break a later
INSERT: no NUL, no lone surrogate, no NaN.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from message_worker_client.envelope.storable import may_be_unstorable, replace_unstorable
from message_worker_client.envelope.strict_json import check_shape
from worker.domain.turns.calls import ToolCall
from worker.net.answer import (
    MAX_RETRY_AFTER_S,
    Answer,
    IncompleteAnswerError,
    parse_retry_after,
    parse_wait,
)

MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024

ACCOUNT_CODES: Final = frozenset({"10009", "10010", "20002", "20012", "20100"})
"""A bad or revoked key, a missing right, an inactive or empty account.

Telnyx's page "API error codes", as is the next one.
"""

_MANY_CHARS: Final = 256 * 1024
"""A shorter answer is small in memory, whatever it holds."""

TIMEOUT_CODE: Final = "10008"
"""Telnyx gave up waiting for a part of itself: the call may have happened."""

_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_RESETS: Final = ("x-ratelimit-reset", "ratelimit-reset")
"""No standard says what they hold: see `parse_wait`."""


def read_whole(head: Answer, parts: Iterator[bytes]) -> Answer:
    """Read to the end. IncompleteAnswerError: it does not come, or is beyond MAX_ANSWER_BYTES."""
    return replace(head, body=b"".join(at_most(MAX_ANSWER_BYTES, parts)))


def at_most(limit_bytes: int, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Pass the parts on. IncompleteAnswerError instead of the one that goes over the limit."""
    size_bytes = 0
    for part in parts:
        size_bytes += len(part)
        if size_bytes > limit_bytes:
            raise IncompleteAnswerError(f"answer larger than {limit_bytes} bytes")
        yield part


def request_id(answer: Answer) -> str | None:
    """Return Telnyx's id of the exchange if the header is there and looks like an id."""
    return slug(answer.headers.get("x-request-id"))


def pause_s(answer: Answer, now: datetime) -> float | None:
    """Return the seconds to wait: Retry-After, else the rate limit's reset, else None."""
    asked_s = parse_retry_after(answer.headers, now)
    for name in _RESETS:
        if asked_s is None:
            asked_s = parse_wait(answer.headers.get(name, ""), answer.headers, now)
            # No limit of Telnyx's takes an hour: it is something else.
            asked_s = None if asked_s is not None and asked_s > MAX_RETRY_AFTER_S else asked_s
    return asked_s


def slug(text: object) -> str | None:
    """Return a short id or code as it is; None for anything that could be prose."""
    return text if isinstance(text, str) and _CODE.fullmatch(text) else None


def read_json(body: bytes) -> object:
    """Return the body's JSON value, made storable; None if it is not readable (or is `null`)."""
    return parse_json(body.decode("utf-8-sig", "replace"))


def parse_json(text: str) -> object:
    """Return the text's JSON value, as `read_json` does."""
    try:
        if len(text) > _MANY_CHARS:
            # Empty objects take thirty times the memory of their text.
            check_shape(text.encode("utf-8", "replace"), max_depth=len(text))
        value = _DECODER.decode(text)
        # A pair of surrogates that belong together has become one character by now.
        return _clean(value) if may_be_unstorable(text) else value
    except (ValueError, RecursionError):
        return None


def read_object(body: bytes) -> dict[str, object] | None:
    """Return the body's JSON object; None if it is no readable JSON or no object."""
    value = read_json(body)
    return value if isinstance(value, dict) else None


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


# Python reads 1e999, NaN and Infinity, and would write them back as no JSON that Postgres takes.
_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=lambda _: None)


def _clean(value: object) -> object:
    match value:
        case str():
            return _clean_text(value)
        case dict():
            return {_clean_text(key): _clean(item) for key, item in value.items()}
        case list():
            return [_clean(item) for item in value]
        case _:
            return value


def _clean_text(text: str) -> str:
    return replace_unstorable(text, by="\ufffd")


def tool_call(call_id: object, name: object, arguments: object) -> ToolCall:
    """Return a call of a tool, whatever the model wrote; null is a call without arguments."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolCall(
        call_id=str(call_id) if isinstance(call_id, str | int) else "",
        name=name if isinstance(name, str) else "",
        arguments="" if text.strip() == "null" else text,
    )


def telnyx_code(document: Mapping[str, object] | None) -> str | None:
    """Return the first error code, of `errors[]` or else of `error{}`; None: there is none."""
    if document is None:
        return None
    errors = document.get("errors")
    for error in [*(errors if isinstance(errors, list) else []), document.get("error")]:
        if isinstance(error, dict) and (code := error.get("code")) is not None:
            return slug(str(code))
    return None


def is_telnyx_error(document: Mapping[str, object] | None) -> bool:
    """Return whether it is Telnyx's own error (`errors[]`, `detail`, `error{}`), no gateway's."""
    if document is None:
        return False
    errors, detail, error = document.get("errors"), document.get("detail"), document.get("error")
    return (
        (isinstance(errors, list) and any(isinstance(item, dict) for item in errors))
        or (isinstance(detail, str | list) and bool(detail))
        or (isinstance(error, dict) and bool(error))
    )
