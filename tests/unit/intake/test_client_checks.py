"""The client refuses what a worker refuses, and what it sends means what the producer said."""

import json
import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from message_worker_client import ProducerError
from message_worker_client.envelope import Envelope, EnvelopeError, parse_envelope
from message_worker_client.envelope.wire import DEPTH_AROUND, MAX_BODY_BYTES, MAX_DEPTH
from message_worker_client.message import body_of, checked
from tests.support.envelopes import CHARACTERS, INVALID, VALID, envelopes
from worker.domain.reasons import DeadLetterReason
from worker.queue.gate.entry import Entry, EntryRefusedError


def read_by_worker(body: bytes) -> Envelope:
    """What a worker makes of a body, from the bytes to the envelope."""
    entry = {
        "body": body.decode(),
        "content-type": "application/json",
        "headers": {"task": "messages.receive", "id": "1"},
        "properties": {"delivery_tag": "1", "delivery_info": {}},
    }
    read = Entry.parse(json.dumps(entry).encode(), max_body_bytes=MAX_BODY_BYTES)
    assert read.args == []
    return parse_envelope(read.kwargs["envelope"])


def refused_by_worker(envelope: dict[str, Any]) -> str | None:
    """Why a worker refuses it, in the words of the envelope or of the gate; None = it takes it."""
    try:
        parse_envelope(envelope)
        read_by_worker(json.dumps([[], {"envelope": envelope}, {}]).encode())
    except EnvelopeError as error:
        return str(error)
    except EntryRefusedError as error:
        return f"envelope: {error.reason}"
    return None


def refused_by_client(envelope: dict[str, Any]) -> ProducerError | None:
    try:
        checked(envelope)
    except ProducerError as error:
        return error
    return None


def field_in(refusal: str) -> str:
    """The name before the colon, without places inside it: they differ where it has two faults."""
    return re.split(r"[.:]", refusal)[0]


@given(envelopes())
@example({"channel": "web", "user": "u", "message_id": "m", "text": "t", "version": True})
@example({"channel": "web", "user": "u", "message_id": "m", "text": "\ud83d\ude42"})
def test_the_client_takes_exactly_what_a_worker_takes(envelope: dict[str, Any]) -> None:
    theirs = refused_by_worker({"version": 1, **envelope})
    ours = refused_by_client(envelope)
    assert (ours is None) is (theirs is None), (ours, theirs)
    if ours is None or theirs is None:
        read = read_by_worker(body_of([checked(envelope)]).encode())
        assert read == parse_envelope({"version": 1, **envelope})
    elif "give what JSON has" not in str(ours):  # which comes before any field
        assert field_in(str(ours)) == field_in(theirs)


@pytest.mark.parametrize("name", VALID)
def test_the_client_sends_every_valid_fixture_as_it_is(name: str) -> None:
    sent = checked(VALID[name])
    assert json.loads(body_of([sent])) == [[], {"envelope": VALID[name]}, {}]
    assert sent.envelope == parse_envelope(VALID[name])


@pytest.mark.parametrize("name", [name for name in INVALID if name != "version_missing"])
def test_the_client_refuses_every_invalid_fixture_with_the_workers_words(name: str) -> None:
    envelope = INVALID[name]["envelope"]
    with pytest.raises(ProducerError) as refused:
        checked(envelope)
    with pytest.raises(EnvelopeError) as by_worker:
        parse_envelope(envelope)
    assert str(refused.value) == str(by_worker.value)
    assert refused.value.field == INVALID[name]["field"]


def test_an_envelope_without_a_version_gets_the_clients() -> None:
    without = {name: value for name, value in VALID["bare"].items() if name != "version"}
    assert json.loads(checked(without).text) == VALID["bare"]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_the_limits_of_the_gate_are_the_clients_to_the_byte() -> None:
    bare = VALID["bare"]
    deepest = bare | {"x": nested(MAX_DEPTH - DEPTH_AROUND - 1)}
    assert refused_by_worker(deepest) is None
    checked(deepest)
    too_deep = bare | {"x": nested(MAX_DEPTH - DEPTH_AROUND)}
    assert refused_by_worker(too_deep) == f"envelope: {DeadLetterReason.TOO_DEEP}"
    around = len(body_of([checked(bare | {"x": ""})]).encode())
    largest = bare | {"x": "x" * (MAX_BODY_BYTES - around)}
    assert len(body_of([checked(largest)]).encode()) == MAX_BODY_BYTES
    read_by_worker(body_of([checked(largest)]).encode())
    too_large = bare | {"x": "x" * (MAX_BODY_BYTES - around + 1)}
    for envelope in (too_deep, too_large):
        with pytest.raises(ProducerError, match=r"^envelope: at most"):
            checked(envelope)


class Kind(StrEnum):
    WEB = "web"


def test_python_values_become_what_json_has() -> None:
    sent = checked(
        {
            **VALID["bare"],
            "channel": Kind.WEB,
            "sent_at": datetime(2026, 11, 22, tzinfo=UTC),
            "signals": ("bulk",),
        }
    )
    assert json.loads(sent.text) == VALID["bare"] | {
        "sent_at": "2026-11-22T00:00:00+00:00",
        "signals": ["bulk"],
    }


@pytest.mark.parametrize(
    "value",
    [{1, 2}, b"bytes", object(), float("nan"), float("inf"), 10**5000, nested(100_000)],
    ids=["set", "bytes", "object", "nan", "infinity", "huge", "deep"],
)
def test_what_json_has_not_is_refused(value: object) -> None:
    with pytest.raises(ProducerError, match=r"^envelope: give what JSON has"):
        checked({**VALID["bare"], "x": value})


def test_a_time_without_an_offset_is_refused() -> None:
    with pytest.raises(ProducerError, match=r"^sent_at: give RFC 3339 with an offset"):
        checked({**VALID["bare"], "sent_at": datetime(2026, 11, 22)})  # noqa: DTZ001


CANARIES = st.lists(st.sampled_from([*CHARACTERS, "\0", "\ud83d"]), min_size=20, max_size=40)


@given(CANARIES.map("".join), envelopes())
def test_an_error_holds_nothing_of_the_message(canary: str, envelope: dict[str, Any]) -> None:
    error = refused_by_client({**envelope, "unknown": canary, "user": canary, "text": {canary: 1}})
    assert error is not None
    assert canary not in f"{error} {error.field}"
    assert error.__context__ is None
