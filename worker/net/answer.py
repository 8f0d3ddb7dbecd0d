"""An HTTP answer, how it is read, and its Retry-After."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeAlias, TypeVar

MAX_RETRY_AFTER_S: Final = 3600.0
"""A longer Retry-After counts as an hour: a typo of theirs must not stop us for days."""

_Result = TypeVar("_Result")

# Nine digits at most: ten are a point in time (seconds since 1970) in the wrong header.
_SECONDS: Final = re.compile(r"\s*\d{1,9}(\.\d{1,9})?\s*", re.ASCII)


class IncompleteAnswerError(Exception):
    """No complete answer came. `str()` is a short reason, never a byte of what was sent or came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, headers (names in lower case; the last of a repeated one) and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


Read: TypeAlias = Callable[[Answer, Iterator[bytes]], _Result]
"""Takes an answer's head and the parts of its body as they come, to be read once.

The parts raise IncompleteAnswerError if the rest does not come.
"""


def parse_retry_after(headers: Mapping[str, str], now: datetime | None) -> float | None:
    """Return the seconds that Retry-After asks for; None if it asks for nothing readable.

    `now` serves a date in it; None = a date is passed over.
    """
    text = headers.get("retry-after", "")
    if _SECONDS.fullmatch(text):
        return min(float(text), MAX_RETRY_AFTER_S)
    until = None if now is None else _http_date(text)
    if now is None or until is None:
        return None
    # Their own clock if they show it: ours may be wrong.
    since = _http_date(headers.get("date", "")) or now
    return min(max((until - since).total_seconds(), 0.0), MAX_RETRY_AFTER_S)


def _http_date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
