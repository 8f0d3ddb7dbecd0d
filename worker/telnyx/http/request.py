"""How a request is built: its target, its headers, its bytes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Self
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from worker.net.window import CallWindow

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where requests go, taken apart once."""

    scheme: str
    host: str
    port: int
    host_header: str
    prefix: str
    """The base URL's path, without a slash at the end."""

    @classmethod
    def of(cls, base_url: str) -> Self:
        """Read http(s)://host[:port][/path]. Raises ValueError on anything else."""
        parts = urlsplit(base_url)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
            raise ValueError("the base URL must be http(s)://host[:port]/path, without credentials")
        target = cls(
            scheme=parts.scheme,
            host=parts.hostname,
            port=parts.port or _DEFAULT_PORTS[parts.scheme],
            host_header=parts.netloc,
            prefix=parts.path.rstrip("/"),
        )
        target.url("/")  # now, not at the first call
        return target

    def url(self, path: str) -> httpx.URL:
        """Return the URL of a path (with its query, already encoded) below the base.

        Raises ValueError for what httpx would not send (64 KiB is its limit).
        """
        return _url(self, path)


@lru_cache(maxsize=16)  # all turns go to one path, and httpx takes long to read it
def _url(target: Target, path: str) -> httpx.URL:
    try:
        return httpx.URL(
            scheme=target.scheme,
            host=target.host,
            port=target.port,
            raw_path=(target.prefix + path).encode("ascii"),
        )
    except httpx.InvalidURL:
        reason = f"{len(path)} characters that are no path below this base URL"
    raise ValueError(reason)  # unchained: httpx quotes what it was given


class Requests:
    """Builds requests. Alone holds the key, and never in a variable that a traceback could show."""

    def __init__(self, target: Target, api_key: SecretStr) -> None:
        if not _fits_a_header(api_key):
            raise ValueError("the API key is empty or has characters that a header cannot carry")
        self._target = target
        self._api_key = api_key

    def build(
        self,
        method: str,
        path: str,
        body: bytes | None,
        window: CallWindow,
        *,
        idempotency_key: str | None = None,
        accept: bytes = JSON,
    ) -> httpx.Request:
        """Return the request, its window with it; `body` is JSON, None for none."""
        about_body = {} if body is None else {b"Content-Type": JSON}
        once = {} if idempotency_key is None else {b"Idempotency-Key": idempotency_key.encode()}
        return httpx.Request(
            method,
            self._target.url(path),
            headers=[
                (b"Host", self._target.host_header.encode("ascii")),
                (b"Authorization", b"Bearer " + self._api_key.get_secret_value().encode("ascii")),
                (b"Accept", accept),
                (b"Accept-Encoding", b"identity"),  # nothing to unpack, so no bomb
                (b"User-Agent", b"message-worker"),
                (b"Content-Length", b"%d" % len(body or b"")),
                *about_body.items(),
                *once.items(),
            ],
            stream=httpx.ByteStream(body or b""),  # `content=` would go through the headers again
            extensions={"window": window},
        )


def _fits_a_header(key: SecretStr) -> bool:
    return bool(key) and all("!" <= character <= "~" for character in key.get_secret_value())


def encode(document: Mapping[str, object]) -> bytes:
    """Return compact JSON; half of a surrogate pair becomes `?`. Raises TypeError, ValueError."""
    text = json.dumps(
        document, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
    )
    return text.encode("utf-8", "replace")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
