"""Envelopes for hypothesis: mostly good, with a fault here and there; and the golden fixtures."""

import json
from datetime import UTC, timedelta, timezone
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[1] / "fixtures" / "envelopes"
VALID = {file.stem: json.loads(file.read_text()) for file in sorted(FIXTURES.glob("valid/*.json"))}
INVALID = {
    file.stem: json.loads(file.read_text()) for file in sorted(FIXTURES.glob("invalid/*.json"))
}
WIRE = sorted(FIXTURES.glob("wire/*.bin"))

# Generating has to stay cheap, the first draw too, or Hypothesis gives up on a busy machine. So
# texts are made of a few characters, JSON of a few values, and a long list repeats one element:
# `st.text` loads tables of all Unicode, and `st.recursive` builds a tree of strategies first.
CHARACTERS = [*'aZ09 _-"\\/\n\x1f\x7f', "\u00e9", "\u0301", "\u0958", "\uffff", "€", "🙂"]
PLAIN_TEXT = st.lists(st.sampled_from(CHARACTERS), max_size=8).map("".join)
SIZES = st.sampled_from([0, 1, 15, 16, 17])
EDGES = st.sampled_from(
    ["", " ", "\0", "\ud83d", "\ud83d\ude42", "🙂", "a\n", "\u0958", "1", "null", "\\u0000"]
)
NUMBERS = [0, 1, -1, 0.0, -0.0, 0.5, 5e-324, 1e308, 2**53 + 1, 10**40, float("nan"), float("inf")]
SCALARS = st.sampled_from([None, True, False, *NUMBERS]) | PLAIN_TEXT | EDGES
JSON = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(PLAIN_TEXT | EDGES, SCALARS, max_size=3),
    st.builds(lambda key, inner, one: {key: [[inner], {key: one}]}, EDGES, SCALARS, SCALARS),
)


def long_text(limit: int) -> st.SearchStrategy[str]:
    """Texts about as long as is permitted, of narrow and of wide characters."""
    sizes = st.sampled_from([1, limit - 1, limit, limit + 1, limit // 3, limit // 4 + 1])
    return st.builds(
        lambda char, size: char * size, st.sampled_from("aé€🙂\u0958\U0001d160"), sizes
    )


def many(one: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Lists about as long as is permitted: one element, repeated, and another in front."""
    return st.builds(lambda first, again, size: [first, *[again] * size][:size], one, one, SIZES)


def near(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(*[good] * 8, EDGES, JSON)


ZONES = [timezone(timedelta(minutes=minutes)) for minutes in (-1439, -210, 60, 345, 1439)]
TIMES = st.sampled_from(
    [
        "2026-11-22T20:15:00Z",
        "2026-11-22t20:15:00.5+01:00",
        "2028-02-29T23:59:59-00:00",
        "2026-02-29T00:00:00Z",
        "2026-11-22 20:15:00Z",
        "2026-11-22T20:15:00",
        "2026-11-22T20:15:60Z",
        "2026-11-22T20:15:00.1234567890Z",
        "0999-01-01T00:00:00Z",
        "9998-12-31T23:59:59-23:59",
        "9999-01-01T00:00:00Z",
        "٢026-11-22T20:15:00Z",
        "2026-11-22T20:15:00Z\n",
        "1790000000",
    ]
) | st.datetimes(timezones=st.sampled_from([None, UTC, *ZONES])).map(lambda at: at.isoformat())
ATTACHMENTS = st.fixed_dictionaries(
    {"content_type": near(st.just("image/png") | long_text(255))},
    optional={
        "url": near(st.sampled_from(["https://a.example", "http://", "ftp://a"])),
        "data": near(st.just("aGVsbG8=")),
        "name": near(long_text(255)),
        "other": JSON,
    },
)
REQUIRED: dict[str, st.SearchStrategy[Any]] = {
    "version": near(st.just(1)),
    "channel": near(st.sampled_from(["web", "sms", "a" * 32, "a" * 33, "web\n"])),
    "user": near(long_text(320) | PLAIN_TEXT),
    "message_id": near(long_text(998) | PLAIN_TEXT),
    "text": near(long_text(65_536) | PLAIN_TEXT),
}
OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    "recipient": near(long_text(320)),
    "thread": near(long_text(255)),
    "agent": near(long_text(64)),
    "sent_at": near(TIMES),
    "expires_at": near(TIMES),
    "signals": near(many(near(long_text(64)))),
    "attachments": near(many(near(ATTACHMENTS))),
    "reply_to": near(long_text(64)),
    "metadata": near(
        st.dictionaries(PLAIN_TEXT, near(long_text(1024)), max_size=3)
        | st.builds(lambda keys, one: {str(key): one for key in range(keys)}, SIZES, long_text(9))
    ),
    "unknown": JSON,
}
BASE = {"version": 1, "channel": "web", "user": "u", "message_id": "m", "text": "t"}


@st.composite
def envelopes(draw: st.DrawFn) -> dict[str, Any]:
    """A good envelope with some fields replaced, added or taken away."""
    fields = {**REQUIRED, **OPTIONAL}
    names = draw(st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True))
    made: dict[str, Any] = BASE | {name: draw(fields[name]) for name in names}
    if draw(st.integers(1, 20)) == 20:
        del made[draw(st.sampled_from(sorted(made)))]
    return made
