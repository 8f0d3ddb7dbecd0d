"""Server-sent events: the rules of WHATWG, and that no cut between two bytes can be noticed."""

import codecs
import re
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.net.answer import IncompleteAnswerError
from worker.telnyx.streaming.sse import Event, EventDecoder

LIMIT = 1000


def decode(parts: Iterable[bytes], limit: int = LIMIT) -> tuple[list[Event], str | None]:
    """Return the events, and what stood at the end: what is cut there, or why it broke off."""
    decoder = EventDecoder(limit)
    events: list[Event] = []
    try:
        for part in parts:
            events.extend(decoder.feed(part))
    except IncompleteAnswerError as error:
        return events, str(error)
    return events, decoder.inside


def events(*parts: bytes) -> list[tuple[str, str]]:
    return [(event.name, event.data) for event in decode(parts)[0]]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_each_of_the_three_line_ends_is_one(end: bytes) -> None:
    lines = [b"event: a", b"data: 1", b"data: 2", b"", b"data: 3", b"", b""]
    assert events(end.join(lines)) == [("a", "1\n2"), ("", "3")]


def test_no_other_line_end_of_unicode_ends_a_line() -> None:
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    assert events(f"data: {text}\n\n".encode()) == [("", text)]


def test_a_crlf_that_is_cut_in_two_is_one_line_end() -> None:
    assert events(b"data: 1\r", b"\ndata: 2\r", b"\n\r", b"\n") == [("", "1\n2")]


def test_an_event_that_ends_in_cr_is_there_before_anything_follows() -> None:
    assert events(b"data: 1\r\r") == [("", "1")]


def test_only_the_first_byte_order_mark_is_dropped() -> None:
    data = codecs.BOM_UTF8 + b"data: 1\n\n" + codecs.BOM_UTF8 + b"data: 2\n\n"
    assert events(data) == [("", "1")]
    assert events(data[:1], data[1:2], data[2:]) == [("", "1")]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"data:x\n\n", [("", "x")]),
        (b"data:  x \n\n", [("", " x ")]),
        (b"data\n\n", [("", "")]),
        (b"data:\n\n", [("", "")]),
        (b"data\ndata\n\n", [("", "\n")]),
        (b"data: a:b\n\n", [("", "a:b")]),
        (b": a comment\n\n", []),
        (b":\n: data: x\n\n", []),
        (b"event: a\n\ndata: 1\n\n", [("", "1")]),
        (b"event: a\nevent: b\ndata: 1\n\n", [("b", "1")]),
        (b"id: 7\nretry: 10\nwhatever: x\nDATA: y\n data: z\ndata: 1\n\n", [("", "1")]),
        (b"\n\n\ndata: 1\n\n\n\n", [("", "1")]),
        (b"data: 1\n", []),
        (b"data: \xff\xc3\n\n", [("", "\ufffd\ufffd")]),
        (b"", []),
    ],
)
def test_fields_are_read_as_the_standard_says(
    lines: bytes, expected: list[tuple[str, str]]
) -> None:
    assert events(lines) == expected


@pytest.mark.parametrize(
    ("data", "inside"),
    [
        (b"", None),
        (b"data: 1\n\n", None),
        (b"data: 1\r\n\r", None),
        (b": comment\n", None),
        (b"data: 1\n", "an event"),
        (b"event: a\n", "an event"),
        (b"data: 1\n\nda", "an event"),
        ("data: ü".encode(), "an event"),
        ("data: ü".encode()[:-1], "a character"),
        ("data: \U0001f600".encode()[:-1], "a character"),
    ],
)
def test_it_is_known_what_an_end_would_cut(data: bytes, inside: str | None) -> None:
    assert decode([data])[1] == inside


@pytest.mark.parametrize(
    "data",
    [
        b"data: " + b"x" * LIMIT,
        b"data: x\n" * LIMIT,
        b": " + b"x" * LIMIT,
        b"event: " + b"x" * LIMIT,
        b"x" * 10 * LIMIT,
    ],
)
def test_an_event_without_end_is_given_up(data: bytes) -> None:
    before = [Event(name="", data="1")]
    reason = f"event larger than {LIMIT} bytes"
    assert decode([b"data: 1\n\n" + data]) == (before, reason)


def test_many_events_and_comments_are_no_large_event() -> None:
    assert len(events((b": comment\ndata: x\n\n") * LIMIT)) == LIMIT


def one_after_the_other(data: bytes) -> list[tuple[str, str]]:
    """The standard's text, word by word, for a body that is there as a whole."""
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _ = re.split("\r\n|\n|\r", text)
    found, name, buffer = [], "", ""
    for line in lines:
        field, colon, value = line.partition(":")
        if line == "":
            if buffer:
                found.append((name, buffer.removesuffix("\n")))
            name, buffer = "", ""
        elif colon and not field:
            continue
        elif field == "data":
            buffer += value.removeprefix(" ") + "\n"
        elif field == "event":
            name = value.removeprefix(" ")
    return found


WORDS = [b"data", b"event", b"id", b":", b": ", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"x"]
CHARACTERS = [
    "ü".encode(),
    "\U0001f600".encode(),
    b"\xf0\x9f",
    b"\xff",
    codecs.BOM_UTF8,
    b"\xef\xbb",
]
pieces = st.sampled_from(WORDS + CHARACTERS)
bodies = st.lists(pieces | st.binary(max_size=3), max_size=40).map(b"".join)


@settings(deadline=None, max_examples=300)
@given(bodies, st.lists(st.integers(0, 200), max_size=12), st.sampled_from([LIMIT, 20]))
@example(b"\xef\xbb\xbfdata: \xc3\xbc\r\n\r\ndata: 2\n\n", [], LIMIT)
def test_any_cutting_of_the_same_bytes_gives_the_same_events(
    body: bytes, places: list[int], limit: int
) -> None:
    whole = decode([body], limit)
    assert decode([body[i : i + 1] for i in range(len(body))], limit) == whole
    bounds = [0, *sorted(min(place, len(body)) for place in places), len(body)]
    assert decode([body[start:end] for start, end in pairwise(bounds)], limit) == whole
    if whole[1] is None or not whole[1].startswith("event larger"):
        assert [(one.name, one.data) for one in whole[0]] == one_after_the_other(body)
