"""How a request is built: its target, its headers, its bytes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

import httpcore
from pydantic import SecretStr

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
        return cls(
            scheme=parts.scheme,
            host=parts.hostname,
            port=parts.port or _DEFAULT_PORTS[parts.scheme],
            host_header=parts.netloc,
            prefix=parts.path.rstrip("/"),
        )

    def url(self, path: str) -> httpcore.URL:
        """Return the URL of a path (with its query, already encoded) below the base."""
        return httpcore.URL(
            scheme=self.scheme.encode("ascii"),
            host=self.host.encode("ascii"),
            port=self.port,
            target=(self.prefix + path).encode("ascii"),
        )


class Requests:
    """Builds requests. Alone holds the key, and never in a variable that a traceback could show."""

    def __init__(self, target: Target, api_key: SecretStr) -> None:
        if not _fits_a_header(api_key):
            raise ValueError("the API key is empty or has characters that a header cannot carry")
        self._target = target
        self._api_key = api_key

    def build(
        self, method: str, path: str, body: bytes | None, *, idempotency_key: str | None = None
    ) -> httpcore.Request:
        """Return the request; `body` is JSON, None for none."""
        about_body = {} if body is None else {b"Content-Type": b"application/json"}
        once = {} if idempotency_key is None else {b"Idempotency-Key": idempotency_key.encode()}
        return httpcore.Request(
            method,
            self._target.url(path),
            headers=[
                (b"Host", self._target.host_header.encode("ascii")),
                (b"Authorization", b"Bearer " + self._api_key.get_secret_value().encode("ascii")),
                (b"Accept", b"application/json"),
                (b"Accept-Encoding", b"identity"),  # nothing to unpack, so no bomb
                (b"User-Agent", b"message-worker"),
                (b"Content-Length", b"%d" % len(body or b"")),
                *about_body.items(),
                *once.items(),
            ],
            content=body,
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
