"""Unwraps queue entries, message bodies and dead letters until it finds the envelope."""

import base64
import json
import zlib
from collections.abc import Iterator
from typing import Any

from message_worker_client.envelope.strict_json import check_shape
from message_worker_client.envelope.wire import MAX_DEPTH

_MAX_WRAPPERS = 8
"""Entry, body, dead letter, entry and body are five; nothing is wrapped deeper."""
_MAX_BODY_BYTES = 4 * 1024 * 1024
"""Limit for a compressed body, after decompression."""


def layers(raw: bytes) -> Iterator[tuple[bytes, Any]]:
    """Yield the bytes, then the content of each wrapper: raw, and as JSON (None = not JSON).

    Never raises. An envelope may look like a wrapper: stop at the first match.
    """
    for _ in range(_MAX_WRAPPERS):
        document = _json(raw)
        yield raw, document
        inner = _inside(document)
        if inner is None:
            return
        raw = inner


def _inside(document: Any) -> bytes | None:  # noqa: ANN401 - any JSON
    """Remove one wrapper; None = there is none."""
    try:
        match document:
            case {"body": str() as body}:
                return _body(document, body)
            case [dict() as entry, str(), str()]:
                # kombu's note of an unacknowledged message.
                return _dumped(entry)
            case [_, {"envelope": envelope}, *_]:
                return _dumped(envelope)
            case [[dict() as envelope, *_], dict(), *_]:
                return _dumped(envelope)
            case [[str() as rejected, str(), str(), str()], dict(), *_]:
                # The arguments of `dead_letters.keep`.
                return base64.b64decode(rejected)
            case {"kwargs": {"envelope": envelope}}:
                # Celery's message protocol 1.
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
    # A body that was cut is decoded as far as it goes.
    content = base64.b64decode(body[: len(body) // 4 * 4])
    if isinstance(headers, dict) and headers.get("compression"):
        return zlib.decompressobj().decompress(content, _MAX_BODY_BYTES)
    return content


def _json(raw: bytes) -> Any:  # noqa: ANN401 - any JSON
    # Not as strict as `read_json`: it looks into what that one has refused.
    try:
        check_shape(raw, MAX_DEPTH)
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _dumped(value: object) -> bytes:
    return json.dumps(value).encode()
