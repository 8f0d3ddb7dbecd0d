"""Unwraps queue entries, message bodies and dead letters until it finds the envelope."""

import base64
import json
import re
import uuid
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from message_worker_client.envelope.strict_json import check_shape
from message_worker_client.envelope.wire import MAX_DEPTH

_MAX_WRAPPERS = 8
"""Entry, body, dead letter, entry and body are five; nothing is wrapped deeper."""
_MAX_BODY_BYTES = 4 * 1024 * 1024
"""Limit for a compressed body, after decompression."""

UUID_FORM: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_FOREIGN_IDS: Final = uuid.UUID("6f1d6d0a-8a0c-5d0e-9a55-6a1f7b1f2c10")


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


def envelope_in(raw: bytes) -> dict[str, Any]:
    """Return the envelope in the bytes, however it is wrapped.

    Without a `version` anywhere, the innermost object is taken. Raises `LookupError`.
    """
    found: object = None
    for depth, (_, document) in enumerate(layers(raw)):
        if isinstance(document, dict) and "version" in document:
            return document
        found = document if depth else None
    if isinstance(found, dict):
        return found
    raise LookupError("there is no envelope in its bytes")


def without(raw: bytes, belongs: Callable[[bytes], bool]) -> bytes | None:
    """Return an entry, or a note of one, without the envelopes that belong to a user.

    None = the whole belongs to them: it holds no list, or nobody else's envelope.
    """
    try:
        document = json.loads(raw)
        entry = document[0] if isinstance(document, list) else document
        args, kwargs, embed = json.loads(body_of(entry))
        envelopes = kwargs["envelope"] if "envelope" in kwargs else args[0]
        rest = [one for one in envelopes if not belongs(json.dumps(one).encode())]
        if not isinstance(envelopes, list) or not rest:
            return None
        if len(rest) == len(envelopes):
            return raw
        body = [[], {"envelope": rest}, embed]
        entry["body"] = base64.b64encode(json.dumps(body).encode()).decode()
        entry["properties"]["body_encoding"] = "base64"
        return json.dumps(document).encode()
    # Not an entry as the gate admits one: then nothing in it can be told apart.
    except (ValueError, TypeError, LookupError, RecursionError, zlib.error):
        return None


def event_in(raw: bytes) -> tuple[object, str | None] | None:
    """Return the event of Telnyx that a call of `channels.event` holds, and its key; None = none.

    The call may be wrapped.
    """
    for _, document in layers(raw):
        match document:
            case [_, {"event": event, **more}, *_]:
                key = more.get("key")
                return event, key if isinstance(key, str) else None
    return None


def _inside(document: Any) -> bytes | None:  # noqa: ANN401 - any JSON
    """Remove one wrapper; None = there is none."""
    try:
        match document:
            case {"body": str()}:
                return body_of(document)
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


def body_of(entry: dict[str, Any]) -> bytes:
    """Return the decoded body of an entry. Raises `ValueError`, `KeyError` or `zlib.error`."""
    body: str = entry["body"]
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


def uuid_of(task_id: str) -> str:
    """Return the id under which logs, Flower and rows have a task."""
    return task_id if UUID_FORM.fullmatch(task_id) else str(uuid.uuid5(_FOREIGN_IDS, task_id))
