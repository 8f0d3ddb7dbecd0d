"""How a request is built: its URL, its headers, its bytes."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import httpcore
import httpx
from pydantic import SecretStr

from worker.net.connection import core_url
from worker.net.post_once import JSON, USER_AGENT, parse_url

EVENT_STREAM: Final = b"text/event-stream"


def parse_base_url(text: str) -> httpx.URL:
    """Read http(s)://host[:port][/path]. Raises ValueError on anything else."""
    try:
        return parse_url(text)
    except ValueError:
        fault = "the base URL must be http(s)://host[:port]/path, without credentials"
        raise ValueError(fault) from None


# All turns go to one path, and httpx takes long to read it.
@lru_cache(maxsize=16)
def url_below(base: httpx.URL, path: str) -> httpcore.URL:
    """Return the URL of a path (with its query, already encoded) below the base.

    Raises ValueError for a path that httpx would not send (its limit is 64 KiB).
    """
    prefix = base.raw_path.partition(b"?")[0].rstrip(b"/")
    try:
        return core_url(base.copy_with(raw_path=prefix + path.encode("ascii")))
    except httpx.InvalidURL:
        reason = f"{len(path)} characters that are no path below this base URL"
    raise ValueError(reason)  # unchained: httpx quotes its input


class Requests:
    """Builds requests. Alone holds the key, and never in a variable that a traceback could show."""

    def __init__(self, base: httpx.URL, api_key: SecretStr) -> None:
        if not _fits_a_header(api_key):
            raise ValueError("the API key is empty or has characters that a header cannot carry")
        self._base = base
        self._api_key = api_key

    def build(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        idempotency_key: str | None = None,
        accept: bytes = JSON,
    ) -> httpcore.Request:
        """Return the request; `body` is JSON, None for none."""
        about_body = [] if body is None else [(b"Content-Type", JSON)]
        once = [] if idempotency_key is None else [(b"Idempotency-Key", idempotency_key.encode())]
        return httpcore.Request(
            method,
            url_below(self._base, path),
            # Not in a variable: a traceback that shows locals would show the key.
            headers=[
                (b"Host", self._base.netloc),
                (b"Authorization", b"Bearer " + self._api_key.get_secret_value().encode("ascii")),
                (b"Accept", accept),
                (b"Accept-Encoding", b"identity"),  # nothing to unpack, so no bomb
                (b"User-Agent", USER_AGENT),
                (b"Content-Length", b"%d" % len(body or b"")),
                *about_body,
                *once,
            ],
            content=body or b"",
        )


def _fits_a_header(key: SecretStr) -> bool:
    return bool(key) and all("!" <= character <= "~" for character in key.get_secret_value())


def encode(document: Mapping[str, object]) -> bytes:
    """Return compact JSON; half of a surrogate pair becomes `?`. Raises TypeError, ValueError."""
    text = json.dumps(
        document, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_dict
    )
    return text.encode("utf-8", "replace")


def _as_dict(value: object) -> object:
    # json knows dict alone, and values of the domain are read-only mappings.
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
