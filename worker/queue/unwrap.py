"""What lies in what: entries of a queue, bodies of messages, dead letters, down to an envelope."""

import base64
import json
import zlib
from collections.abc import Iterator
from typing import Any

_MAX_WRAPPERS = 8
"""Entry, body, letter, entry, body: and nobody wraps deeper."""
_MAX_BODY_BYTES = 4 * 1024 * 1024
"""Of what was compressed."""


def layers(raw: bytes) -> Iterator[tuple[bytes, Any]]:
    """Give the bytes, then what each wrapper holds: raw, and as JSON (None = it is none).

    Never raises. An envelope may look like a wrapper: stop at what you were looking for.
    """
    for _ in range(_MAX_WRAPPERS):
        document = _json(raw)
        yield raw, document
        inner = _inside(document)
        if inner is None:
            return
        raw = inner


def _inside(document: Any) -> bytes | None:  # noqa: ANN401 - whatever JSON it is
    """Take one wrapper off; None = there is none."""
    try:
        match document:
            case {"body": str() as body}:
                return _body(document, body)
            case [dict() as entry, str(), str()]:  # kombu's note of what is not acknowledged
                return _dumped(entry)
            case [_, {"envelope": envelope}, *_]:
                return _dumped(envelope)
            case [[dict() as envelope, *_], dict(), *_]:
                return _dumped(envelope)
            case [[str() as letter, str(), str(), str()], dict(), *_]:  # of `dead_letters.keep`
                return base64.b64decode(letter)
            case {"kwargs": {"envelope": envelope}}:  # protocol 1
                return _dumped(envelope)
            case _:
                return None
    except (ValueError, RecursionError, zlib.error):
        return None


def _body(entry: dict[str, Any], body: str) -> bytes:
    properties, headers = entry.get("properties"), entry.get("headers")
    encoding = properties.get("body_encoding") if isinstance(properties, dict) else None
    if encoding != "base64":
        return body.encode()
    content = base64.b64decode(body[: len(body) // 4 * 4])  # as far as it goes, where it was cut
    if isinstance(headers, dict) and headers.get("compression"):
        return zlib.decompressobj().decompress(content, _MAX_BODY_BYTES)
    return content


def _json(raw: bytes) -> Any:  # noqa: ANN401 - whatever somebody has sent
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _dumped(value: object) -> bytes:
    return json.dumps(value).encode()
