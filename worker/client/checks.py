"""What a worker checks, by hand: field by field in the same order, with the same words.

`worker/envelope.py` is the definition; `test_client_checks.py` holds the two together.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from typing import Any, Final

VERSION: Final = 1
MAX_BODY_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 62
"""Lists and objects inside each other; a worker reads 64, and two are around the envelope."""
_MAX_TEXT_BYTES: Final = 65_536
_MAX_METADATA_BYTES: Final = 1024
_MAX_KEY_BYTES: Final = 2048
_MAX_ITEMS: Final = 16
_REQUIRED: Final = ("channel", "user", "message_id", "text")
_CHANNEL: Final = re.compile(r"[a-z0-9_-]{1,32}")
_URL: Final = re.compile(r"https?://")
_TIME: Final = re.compile(
    r"(?!9999)[1-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

Fault = tuple[str, str]
"""Where, and what to give instead."""


def fault_in(envelope: dict[str, Any], text: str) -> Fault | None:
    """Find the first fault of an envelope. `text`: the same as JSON, not escaped to ASCII."""
    version = envelope.get("version", VERSION)
    if version is True or version != VERSION:
        return "version", f"this service reads {VERSION}"
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_too_deep(envelope):
        return "envelope", f"at most {MAX_DEPTH} lists and objects inside each other"
    if _may_be_unstorable(text) and not all(map(_storable, _texts(envelope))):
        return "envelope", "a text holds a NUL or half of a surrogate pair"
    return next(_faults(envelope), None)


def _faults(envelope: dict[str, Any]) -> Iterator[Fault]:
    for name, check in _CHECKS.items():
        if name in envelope:
            yield from check(name, envelope[name])
        elif name in _REQUIRED:
            yield name, "Field required"
    if not envelope["text"] and not envelope.get("attachments"):
        yield "envelope", "text may be empty only with attachments"
    who = "".join(_nfc(envelope.get(name, "")) for name in ("user", "recipient", "thread"))
    if _size(who) > _MAX_KEY_BYTES:
        yield (
            "envelope",
            f"user, recipient and thread together: at most {_MAX_KEY_BYTES} bytes of UTF-8",
        )


def _text(low: int, high: int | None) -> Callable[[str, Any], Iterator[Fault]]:
    def check(name: str, value: Any) -> Iterator[Fault]:  # noqa: ANN401 - JSON
        if not isinstance(value, str):
            yield name, "Input should be a valid string"
        elif len(value) < low:
            yield name, f"String should have at least {low} character"
        elif high is not None and len(value) > high:
            yield name, f"String should have at most {high} characters"

    return check


def _or_null(
    check: Callable[[str, Any], Iterator[Fault]],
) -> Callable[[str, Any], Iterator[Fault]]:
    return lambda name, value: iter(()) if value is None else check(name, value)


def _channel(name: str, value: Any) -> Iterator[Fault]:  # noqa: ANN401
    if not isinstance(value, str):
        yield name, "Input should be a valid string"
    elif _CHANNEL.fullmatch(value) is None:
        yield name, "String should match pattern '^[a-z0-9_-]{1,32}$'"


def _message_id(name: str, value: Any) -> Iterator[Fault]:  # noqa: ANN401
    yield from _text(1, 998)(name, value)
    if isinstance(value, str) and _size(_nfc(value)) > _MAX_KEY_BYTES:
        yield name, f"at most {_MAX_KEY_BYTES} bytes of UTF-8"


def _what_was_written(name: str, value: Any) -> Iterator[Fault]:  # noqa: ANN401
    yield from _text(0, None)(name, value)
    if isinstance(value, str) and _size(value) > _MAX_TEXT_BYTES:
        yield name, f"at most {_MAX_TEXT_BYTES} bytes of UTF-8"


def _time(name: str, value: Any) -> Iterator[Fault]:  # noqa: ANN401
    if not isinstance(value, str) or not _exists(value):
        yield (
            name,
            "give RFC 3339 with an offset, such as 2026-11-22T20:15:00Z, in the years 1000 to 9998",
        )


def _list_of(
    check: Callable[[str, Any], Iterator[Fault]],
) -> Callable[[str, Any], Iterator[Fault]]:
    def check_all(name: str, value: Any) -> Iterator[Fault]:  # noqa: ANN401
        if not isinstance(value, list):
            yield name, "Input should be a valid list"
        elif len(value) > _MAX_ITEMS:
            yield (
                name,
                f"List should have at most {_MAX_ITEMS} items after validation, not {len(value)}",
            )
        else:
            for at, one in enumerate(value):
                yield from check(f"{name}.{at}", one)

    return check_all


def _attachment(name: str, value: Any) -> Iterator[Fault]:  # noqa: ANN401
    if not isinstance(value, dict):
        yield name, "Input should be a valid dictionary or instance of EnvelopeAttachment"
        return
    if "content_type" in value:
        yield from _text(1, 255)(f"{name}.content_type", value["content_type"])
    else:
        yield f"{name}.content_type", "Field required"
    yield from _url(f"{name}.url", value.get("url"))
    yield from _or_null(_text(0, None))(f"{name}.data", value.get("data"))
    yield from _or_null(_text(0, 255))(f"{name}.name", value.get("name"))
    if (value.get("url") is None) == (value.get("data") is None):
        yield name, "give either url or data"


def _url(name: str, value: Any) -> Iterator[Fault]:  # noqa: ANN401
    yield from _or_null(_text(0, 8192))(name, value)
    if isinstance(value, str) and _URL.match(value) is None:
        yield name, "String should match pattern '^https?://'"


def _metadata(name: str, value: Any) -> Iterator[Fault]:  # noqa: ANN401
    if not isinstance(value, dict):
        yield name, "Input should be a valid dictionary"
        return
    if not all(isinstance(one, str) for one in value.values()):
        yield name, "Input should be a valid string"
    elif len(value) > _MAX_ITEMS:
        yield name, f"Dictionary should have at most {_MAX_ITEMS} items after validation, not more"
    elif any(_size(one) > _MAX_METADATA_BYTES for one in value.values()):
        yield name, f"values of at most {_MAX_METADATA_BYTES} bytes"


_CHECKS: Final[dict[str, Callable[[str, Any], Iterator[Fault]]]] = {
    "channel": _channel,
    "user": _text(1, 320),
    "message_id": _message_id,
    "text": _what_was_written,
    "recipient": _text(0, 320),
    "thread": _text(0, 255),
    "agent": _or_null(_text(1, 64)),
    "sent_at": _or_null(_time),
    "expires_at": _or_null(_time),
    "signals": _list_of(_text(0, 64)),
    "attachments": _list_of(_attachment),
    "reply_to": _or_null(_text(1, 64)),
    "metadata": _metadata,
}


def _exists(text: str) -> bool:
    if _TIME.fullmatch(text) is None:
        return False
    try:
        date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _may_be_unstorable(text: str) -> bool:
    return "\\u0000" in text or (not text.isascii() and _SURROGATE.search(text) is not None)


def _storable(text: str) -> bool:
    return "\0" not in text and (text.isascii() or _SURROGATE.search(text) is None)


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


def _is_too_deep(value: object) -> bool:
    layer = [value]
    for _ in range(MAX_DEPTH):
        layer = [inner for outer in layer for inner in _inside(outer)]
    return any(isinstance(one, dict | list) for one in layer)


def _inside(value: object) -> Iterable[object]:
    match value:
        case dict():
            return value.values()
        case list():
            return value
        case _:
            return ()
