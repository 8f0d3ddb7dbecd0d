"""A complete HTTP answer, and how its parts are read: defensively, with no view on what they mean.

Nothing here raises on what came over the wire, and nothing that leaves here can break a later
INSERT: no NUL, no lone surrogate, no NaN.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from worker.envelope.storable import may_be_unstorable, replace_unstorable

MAX_WAIT_S = 3600.0
"""No Retry-After is believed beyond an hour: a gate would stay closed on their typo."""

ACCOUNT_CODES: Final = frozenset({"10009", "10010", "20002", "20012", "20100"})
"""A bad or revoked key, a missing right, an inactive or empty account.

Telnyx's page "API error codes", as is the next one.
"""

TIMEOUT_CODE: Final = "10008"
"""Something on their side was not waited for: it may have happened."""

_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_SECONDS = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, headers (names in lower case; of a repeated one the last) and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str | None:
        """Telnyx's id of the exchange, where the header is there and looks like an id."""
        return slug(self.headers.get("x-request-id"))

    @property
    def is_html(self) -> bool:
        """A proxy or a firewall spoke, not Telnyx's service."""
        return self.body.lstrip()[:1] == b"<"

    def retry_after_s(self, now: datetime) -> float | None:
        """Seconds to wait: Retry-After (a number or a date), else x-ratelimit-reset, else None."""
        asked = self.headers.get("retry-after", "")
        if _SECONDS.fullmatch(asked.rstrip()):
            return min(float(asked), MAX_WAIT_S)
        if (until := _http_date(asked)) is not None:
            # Their own clock where they show it: ours may be wrong.
            since = _http_date(self.headers.get("date", "")) or now
            return min(max((until - since).total_seconds(), 0.0), MAX_WAIT_S)
        reset = _SECONDS.match(self.headers.get("x-ratelimit-reset", ""))
        if reset is None or float(reset[1]) > MAX_WAIT_S:  # larger: perhaps a point in time
            return None
        return float(reset[1])


def _http_date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def slug(text: object) -> str | None:
    """Return a short id or code as it is; None for anything that could be prose."""
    return text if isinstance(text, str) and _CODE.fullmatch(text) else None


def read_json(body: bytes) -> object:
    """Return the body's JSON value, made storable; None when it is not readable (or is `null`)."""
    return parse_json(body.decode("utf-8-sig", "replace"))


def parse_json(text: str) -> object:
    """Return the text's JSON value, as `read_json` does."""
    try:
        value = _DECODER.decode(text)
        # A pair of surrogates that belong together has become one character by now.
        return _clean(value) if may_be_unstorable(text) else value
    except (ValueError, RecursionError):
        return None


def read_object(body: bytes) -> dict[str, object] | None:
    """Return the body's JSON object; None when it is no readable JSON or no object."""
    value = read_json(body)
    return value if isinstance(value, dict) else None


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


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
    """Tell Telnyx's own error (`errors[]`, `detail` or `error{}`) from a gateway's."""
    if document is None:
        return False
    errors, detail, error = document.get("errors"), document.get("detail"), document.get("error")
    return (
        (isinstance(errors, list) and any(isinstance(item, dict) for item in errors))
        or (isinstance(detail, str | list) and bool(detail))
        or (isinstance(error, dict) and bool(error))
    )
