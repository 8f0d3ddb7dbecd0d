"""Whose bytes are: of entries on a queue, of dead letters, of the inbox.

An envelope that could be accepted says it. Whatever else there is, broken or of another shape, is
taken for his where his address stands in it as a text of its own: it can become nothing but a dead
letter, and he wants to be forgotten.
"""

import base64
import json
import re
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from worker.domain.agents import ChannelKind
from worker.domain.messages import ChannelAddress
from worker.envelope import EnvelopeError, parse_envelope

_MAX_WRAPPERS = 8
"""Entry, body, letter, entry, body: and nobody wraps deeper."""
_MAX_BODY_BYTES = 4 * 1024 * 1024
"""Of what was compressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Belonging:
    """Says of bytes whether they are this channel user's."""

    who: ChannelAddress
    kind: ChannelKind

    def __call__(self, raw: bytes) -> bool:
        """Decide; never raises."""
        is_named = False
        for _ in range(_MAX_WRAPPERS):
            document = _json(raw)
            decided = self._decided(document)
            if decided is not None:
                return decided
            is_named = is_named or self._is_named(raw, document)
            inner = _inside(document)
            if inner is None:
                break
            raw = inner
        return is_named

    def _decided(self, document: object) -> bool | None:
        """Decide by the envelope; None = it is none, or one that his channel refuses."""
        try:
            envelope = parse_envelope(document)
            # Another channel's kind is not ours to judge its addresses by.
            return envelope.channel == self.who.channel and envelope.who(self.kind) == self.who
        except (EnvelopeError, RecursionError):
            return None

    def _is_named(self, raw: bytes, document: object) -> bool:
        wanted = _folded(self.who.address)
        if document is None:
            # Also where each letter takes two bytes, and where JSON was cut off.
            text = _folded(raw.decode("utf-8", "replace").replace("\0", ""))
            forms = (wanted, _folded(json.dumps(_composed(self.who.address))[1:-1]))
            return any(re.search(rf"(?<!\w){re.escape(one)}(?!\w)", text) for one in forms)
        try:
            return any(_folded(one) == wanted for one in _texts(document))
        except RecursionError:
            return False


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


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, one in value.items():
                yield key
                yield from _texts(one)
        case list():
            for one in value:
                yield from _texts(one)
        case _:
            pass


def _folded(text: str) -> str:
    return _composed(text).casefold()


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
