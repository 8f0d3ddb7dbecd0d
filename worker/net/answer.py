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

_NUMBER: Final = re.compile(r"\d{1,16}(?:\.\d{1,9})?", re.ASCII)
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|us|ns|[smhd])", re.ASCII)
_UNITS_S: Final = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_EPOCH_S: Final = 1e9
"""A number from here on is a point in time, in seconds since 1970: no wait takes 30 years."""
_EPOCH_MS: Final = 1e12
_LONGEST_TEXT: Final = 64


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

    `now` serves a point in time in it; None = one is passed over.
    """
    asked_s = parse_wait(headers.get("retry-after", ""), headers, now)
    return None if asked_s is None else min(asked_s, MAX_RETRY_AFTER_S)


def parse_wait(text: str, headers: Mapping[str, str], now: datetime | None) -> float | None:
    """Return the seconds that a header's text stands for, at least 0; None if it is unreadable.

    Read are seconds ("7", "1.5"; of a list the first), durations ("500ms", "1m30s"), and points in
    time: since 1970 in seconds or milliseconds, as HTTP's date, or in ISO 8601.
    """
    text = text.strip()[:_LONGEST_TEXT]
    first = re.split("[,;]", text)[0].replace(" ", "").lower()
    if _NUMBER.fullmatch(first):
        until_s = float(first)
        if until_s < _EPOCH_S:
            return until_s
        until_s = until_s / 1000 if until_s >= _EPOCH_MS else until_s
    elif first and not _DURATION.sub("", first):
        return sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION.findall(first))
    else:
        until = _point_in_time(text)
        if until is None:
            return None
        until_s = until.timestamp()
    if now is None:
        return None
    # Their own clock if they show it: ours may be wrong.
    since = _point_in_time(headers.get("date", "")) or now
    return max(until_s - since.timestamp(), 0.0)


def _point_in_time(text: str) -> datetime | None:
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            parsed = read(text)
            return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    return None
