"""Damages inputs: bytes, JSON, and what tests and bug reports have found to hurt."""

import base64
import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from typing import Any

HOSTILE: tuple[bytes, ...] = (
    b"",
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"null",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"\\u0000",
    b"\\ud800",
    b'"',
    b'\\"' * 2000,
    b"[" * 70,
    b"[" * 2000,
    b'{"a":' * 300,
    b"]" * 300,
    b'{"__type__": "decimal", "__value__": "x"}',
    b'{"__type__": "uuid", "__value__": 1}',
    "\u0301\u0316".encode() * 500,
    "\u202e\u2066".encode(),
    b"%s{}${7*7}",
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**31, 2**63, 2**70, 10**400, 1.5, 1e308, -0.0),
    *("", "\x00", "\ud800", "a" * 70_000, "+13125550001", "0", "null", "2026-11-30T00:00:00Z"),
    *([], {}, [[]], [None] * 300, {"": ""}, {"__type__": "datetime", "__value__": []}),
)


def damaged(raw: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    """Change an input one to four times, in ways that build on each other."""
    for _ in range(random.choice((1, 1, 1, 2, 2, 4))):
        raw = random.choice(_WAYS)(raw, random, others)
    return raw


def json_damaged(document: Any, random: Random) -> Any:  # noqa: ANN401 # any JSON
    """Replace, remove or add one thing at a random place of a document, and sometimes more."""
    made = json.loads(json.dumps(document))
    for _ in range(random.choice((1, 1, 2, 3))):
        holder, key = _place({"it": made}, random)
        match random.randrange(5):
            case 0 if isinstance(holder, dict):
                holder[random.choice(_names(random))] = value(random)
            case 1 if key != "it":
                del holder[key]
            case 2:
                holder[key] = nested(holder[key], random)
            case _:
                holder[key] = value(random)
        if key == "it":
            made = holder["it"]
    return made


def value(random: Random) -> Any:  # noqa: ANN401 # any JSON
    """Make a JSON value, from a list or by chance."""
    if random.random() < 0.7:
        return deepcopy(random.choice(VALUES))
    letters = 'ab \n\t\x7f\x85\u200b\ufeff\u2028é你👩‍👧\u0301"\\\x00'
    return "".join(random.choice(letters) for _ in range(random.randrange(40)))


def nested(inner: Any, random: Random) -> Any:  # noqa: ANN401 # any JSON
    """Put a value into lists or objects, a few or very many."""
    for _ in range(random.choice((1, 3, 59, 62, 66, 300))):
        inner = [inner] if random.random() < 0.5 else {"a": inner}
    return inner


def _names(random: Random) -> list[str]:
    return ["", "recipent", "__type__", "\x00", "x" * random.randrange(1, 3000), "version", "id"]


def _place(document: Any, random: Random) -> tuple[Any, Any]:  # noqa: ANN401 # any JSON
    holder, key = document, "it"
    while isinstance(inner := holder[key], dict | list) and inner and random.random() < 0.75:
        holder, key = (
            inner,
            random.choice(list(inner) if isinstance(inner, dict) else range(len(inner))),
        )
    return holder, key


def _flip(raw: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    changed = bytearray(raw or b" ")
    for _ in range(random.randrange(1, 6)):
        changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def _cut(raw: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    at = random.randrange(len(raw) + 1)
    return raw[:at] if random.random() < 0.5 else raw[at:]


def _insert(raw: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    at = random.randrange(len(raw) + 1)
    return raw[:at] + random.choice(HOSTILE) + raw[at:]


def _repeat(raw: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    at = random.randrange(len(raw) + 1)
    piece = raw[at : at + random.randrange(1, 200)]
    return (raw[:at] + piece * random.choice((2, 50, 1000)) + raw[at:])[: 3 * 1024 * 1024]


def _splice(raw: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    other = random.choice(others)
    return raw[: random.randrange(len(raw) + 1)] + other[random.randrange(len(other) + 1) :]


def _encode(raw: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    ways: tuple[Callable[[bytes], bytes], ...] = (
        base64.b64encode,
        gzip.compress,
        zlib.compress,
        lambda one: one.decode("latin-1").encode("utf-16"),
        lambda one: b"\xef\xbb\xbf" + one,
        lambda one: json.dumps(one.decode("latin-1")).encode(),
    )
    return random.choice(ways)(raw)


def _in_json(raw: bytes, random: Random, _: Sequence[bytes]) -> bytes:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    try:
        return json.dumps(
            json_damaged(document, random), ensure_ascii=random.random() < 0.5
        ).encode("utf-8", "surrogatepass")
    except RecursionError:
        return raw


_WAYS: tuple[Callable[[bytes, Random, Sequence[bytes]], bytes], ...] = (
    *(_in_json, _in_json, _in_json, _flip, _cut, _insert, _repeat, _splice, _encode),
)
