"""The gate alone: any bytes in, a message out."""

import base64
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from worker.domain.reasons import DeadLetterReason
from worker.queue.gate import entry, gate
from worker.queue.gate.entry import Entry, EntryRefusedError, RejectedEntry
from worker.queue.gate.gate import DEAD_LETTER_TASK, HIDDEN, Admitted, EntryGate

FIXTURES = Path(__file__).parents[2] / "fixtures" / "redis_entries"
INDEX: list[dict[str, Any]] = json.loads((FIXTURES / "index.json").read_text())
CANARY = "CANARY-b7e1"


class Receive:
    def run(self, envelope: object) -> None: ...


class Answer:
    def run(self, channel_user_id: object) -> None: ...


class Map:
    def run(self, task: object, it: object) -> None: ...


class Keep:
    def run(self, raw: str, reason: str, detail: str, queue: str) -> None: ...


TASKS = {
    "messages.receive": Receive(),
    "channel_users.answer": Answer(),
    "celery.map": Map(),
    DEAD_LETTER_TASK: Keep(),
}


def a_gate(max_body_bytes: int = 1024 * 1024) -> EntryGate:
    accepts = {"inbound": {"messages.receive"}, "turns": {"channel_users.answer"}}
    return EntryGate(tasks=lambda: TASKS, accepts=accepts, max_body_bytes=max_body_bytes)


def letter_in(message: Admitted) -> RejectedEntry | None:
    if message["headers"]["task"] != DEAD_LETTER_TASK:
        return None
    return RejectedEntry.from_args(message.payload[0])


def as_redis_has_it(message: Admitted) -> bytes:
    return json.dumps(message).encode()


def raw_of(name: str) -> bytes:
    return (FIXTURES / f"{name}.bin").read_bytes()


def an_entry(**properties: object) -> bytes:
    fields = json.loads(raw_of("good_python"))
    fields["properties"] |= properties
    return json.dumps(fields).encode()


@pytest.mark.parametrize("case", INDEX, ids=lambda case: case["file"])
def test_every_fixture_gets_its_reason_and_bad_ones_keep_their_bytes(
    case: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    raw = (FIXTURES / case["file"]).read_bytes()
    with caplog.at_level(logging.DEBUG), capture_logs() as logs:
        message = a_gate().admit(raw, queue="inbound", priority=0)
    letter = letter_in(message)
    if case["reason"] is None:
        assert letter is None
        assert {line["event"] for line in logs} <= {"entry.ignored"}
        assert message["headers"]["task"] == "messages.receive"
    else:
        assert letter is not None
        assert (letter.reason, letter.raw, letter.queue) == (case["reason"], raw, "inbound")
        assert CANARY not in letter.detail
        (line,) = logs
        assert (line["event"], line["reason"]) == ("entry.set_aside", case["reason"])
    assert CANARY not in f"{logs}{caplog.text}"


def test_every_reason_the_gate_gives_has_a_fixture_or_a_test_here() -> None:
    source = "".join(Path(module.__file__).read_text() for module in (entry, gate))
    given_reasons = {DeadLetterReason[name] for name in re.findall(r"Reason\.([A-Z_\d]+)", source)}
    tested_here = {DeadLetterReason.TOO_LARGE, DeadLetterReason.NOT_UNDERSTOOD}
    assert {case["reason"] for case in INDEX} - {None} == given_reasons - tested_here


def test_nothing_a_producer_chose_to_be_shown_reaches_celery() -> None:
    for case in INDEX:
        raw = (FIXTURES / case["file"]).read_bytes()
        message = a_gate().admit(raw, queue="inbound", priority=0)
        wrapper = {name: part for name, part in message.items() if name != "body"}
        # For a dead letter. Celery shows it nowhere, which the canaries of the service prove.
        wrapper["headers"] = {n: one for n, one in wrapper["headers"].items() if n != "origin"}
        assert CANARY not in json.dumps(wrapper)
        assert message["headers"]["argsrepr"] == message["headers"]["kwargsrepr"] == HIDDEN


def test_a_body_reaches_the_task_as_it_came() -> None:
    fields = json.loads(raw_of("good_python"))
    message = a_gate().admit(raw_of("good_python"), queue="inbound", priority=0)
    assert message.body == base64.b64decode(fields["body"])
    args, kwargs, _ = json.loads(message.body)
    assert message.payload == [args, kwargs, {}]
    assert message["body"] == fields["body"]


def test_a_message_is_restored_to_the_list_it_came_from_whatever_its_exchange_says() -> None:
    message = a_gate().admit(raw_of("good_exchange_unknown"), queue="inbound", priority=6)
    where = message["properties"]["delivery_info"]
    assert (where["exchange"], where["routing_key"]) == ("", "inbound")
    assert message["properties"]["priority"] == 6


def test_one_entry_twice_has_two_delivery_tags() -> None:
    the_gate, raw = a_gate(), raw_of("good_python")
    tags = [
        the_gate.admit(raw, queue="inbound", priority=0)["properties"]["delivery_tag"] for _ in "ab"
    ]
    assert tags[0] != tags[1]


@pytest.mark.parametrize("name", ["good_python", "good_few_headers", "unknown_task", "not_utf8"])
def test_a_message_that_comes_back_is_the_same_message(name: str) -> None:
    the_gate = a_gate()
    first = the_gate.admit(raw_of(name), queue="inbound", priority=3)
    second = the_gate.admit(as_redis_has_it(first), queue="inbound", priority=3)
    third = the_gate.admit(as_redis_has_it(second), queue="inbound", priority=3)
    assert (third.body, third.payload) == (first.body, first.payload)
    assert third["headers"] == first["headers"]


def test_foreign_ids_become_uuids_that_do_not_tell() -> None:
    the_gate = a_gate()
    raw = raw_of("good_few_headers")
    ids = {the_gate.admit(raw, queue="inbound", priority=0)["headers"]["id"] for _ in "ab"}
    assert len(ids) == 1
    assert CANARY not in ids.pop()


def test_what_is_too_large_is_kept_with_its_bytes_and_comes_back_as_one_letter() -> None:
    the_gate = a_gate(max_body_bytes=1000)
    big_body = base64.b64encode(b"[[], {}, {}]" + b" " * 1000).decode()
    fields = json.loads(raw_of("good_python")) | {"body": big_body}
    for raw in (json.dumps(fields).encode(), b"x" * 70_000):
        message = the_gate.admit(raw, queue="inbound", priority=0)
        again = the_gate.admit(as_redis_has_it(message), queue="inbound", priority=0)
        for letter in (letter_in(message), letter_in(again)):
            assert letter is not None
            assert (letter.reason, letter.raw) == (DeadLetterReason.TOO_LARGE, raw)


def test_a_body_of_the_permitted_size_comes_in() -> None:
    envelope = {"text": "x" * 900_000}
    body = json.dumps([[], {"envelope": envelope}, {}]).encode()
    fields = json.loads(raw_of("good_python")) | {"body": base64.b64encode(body).decode()}
    message = a_gate().admit(json.dumps(fields).encode(), queue="inbound", priority=0)
    assert letter_in(message) is None


def test_a_defect_in_the_gate_costs_a_dead_letter() -> None:
    def broken() -> dict[str, Any]:
        raise LookupError(CANARY)

    broken_gate = EntryGate(tasks=broken, accepts={"inbound": set()})
    letter = letter_in(broken_gate.admit(raw_of("good_python"), queue="inbound", priority=0))
    assert letter is not None
    assert (letter.reason, letter.detail) == (DeadLetterReason.NOT_UNDERSTOOD, "LookupError")


def test_a_task_comes_in_on_its_own_queue_only() -> None:
    raw = raw_of("task_of_other_queue")
    assert letter_in(a_gate().admit(raw, queue="turns", priority=0)) is None
    assert letter_in(a_gate().admit(raw, queue="inbound", priority=0)) is not None


@pytest.mark.parametrize("tag", ["x", 7])
def test_delivery_tags_may_be_text_or_number(tag: object) -> None:
    raw = an_entry(delivery_tag=tag)
    assert letter_in(a_gate().admit(raw, queue="inbound", priority=0)) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.just("\ud800\0"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@st.composite
def damaged_entries(draw: st.DrawFn) -> bytes:
    """A good entry with one thing in it, at any depth, replaced or its bytes cut and stirred."""
    fields = json.loads(raw_of("good_python"))
    at = fields
    while isinstance(inner := at[key := draw(st.sampled_from(sorted(at)))], dict):
        if not inner or draw(st.booleans()):
            break
        at = inner
    at[key] = draw(json_values)
    raw = bytearray(json.dumps(fields).encode())
    for _ in range(draw(st.integers(0, 3))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) else raw)


def each_kind() -> Iterator[st.SearchStrategy[bytes]]:
    yield st.binary()
    yield json_values.map(lambda value: json.dumps(value).encode())
    yield damaged_entries()


def parsed_or_refused(raw: bytes) -> Entry | EntryRefusedError:
    try:
        return Entry.parse(raw, max_body_bytes=10_000)
    except EntryRefusedError as refusal:
        return refusal


@given(st.one_of(*each_kind()))
def test_any_bytes_are_an_entry_or_a_refusal_with_words_of_ours(raw: bytes) -> None:
    parsed = parsed_or_refused(raw)
    if isinstance(parsed, Entry):
        arguments = [parsed.args, parsed.kwargs]
        json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
        assert "\\u0000" not in json.dumps(arguments).replace("\\\\", "")
    else:
        assert parsed.detail.isascii()
        letter = letter_in(a_gate().admit(raw, queue="inbound", priority=0))
        assert letter is not None
        assert letter.raw == raw


@given(st.binary(), st.sampled_from(DeadLetterReason), st.text(), st.text())
def test_a_letter_survives_the_way(
    raw: bytes, reason: DeadLetterReason, detail: str, queue: str
) -> None:
    letter = RejectedEntry(raw=raw, reason=reason, detail=detail, queue=queue)
    assert RejectedEntry.from_args(json.loads(json.dumps(letter.as_args()))) == letter


@pytest.mark.parametrize(
    "args", [[], ["!", "not_json", "", ""], ["", "no such reason", "", ""], ["", "not_json", 1, ""]]
)
def test_a_letter_of_a_stranger_is_refused(args: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        RejectedEntry.from_args(args)


SOON = "2026-11-30T07:00:00.5+01:00"


@pytest.mark.parametrize(
    ("headers", "embed", "kept", "ignored"),
    [
        ({"eta": SOON}, {}, {"not_before": "2026-11-30T07:00:00.500000+01:00"}, None),
        ({"eta": "2026-11-30T07:00:00"}, {}, {"not_before": "2026-11-30T07:00:00+00:00"}, None),
        ({"expires": SOON}, {}, {"expires_at": "2026-11-30T07:00:00.500000+01:00"}, None),
        ({"eta": "2026-02-30T07:00:00Z", "expires": 60.5}, {}, {}, "eta,expires"),
        ({"not_before": CANARY}, {}, {}, "not_before"),
        ({}, {"callbacks": [{"task": CANARY}], "errbacks": None}, {}, "link"),
        ({}, {"errbacks": [1], "chain": ["x"], "chord": {"a": 1}}, {}, "link_error,chain,chord"),
    ],
)
def test_what_a_producer_asked_of_celery_is_kept_in_postgres_or_said_to_be_ignored(
    headers: dict[str, Any], embed: dict[str, Any], kept: dict[str, str], ignored: str | None
) -> None:
    raw = json.loads(raw_of("good_python"))
    raw["headers"] |= headers
    args, kwargs, _ = json.loads(base64.b64decode(raw["body"]))
    raw["body"] = base64.b64encode(json.dumps([args, kwargs, embed]).encode()).decode()
    message = a_gate().admit(json.dumps(raw).encode(), queue="inbound", priority=0)
    # As a worker that took it over from a dead one sees it.
    again = a_gate().admit(as_redis_has_it(message), queue="inbound", priority=0)
    for one in (message, again):
        times = {name: one["headers"].get(name) for name in ("not_before", "expires_at")}
        assert {name: time for name, time in times.items() if time} == kept
    assert message["headers"].get("ignored") == ignored
    assert not {"eta", "expires"} & message["headers"].keys()


def test_a_rejected_entry_keeps_the_id_of_its_task_and_its_line_has_id_and_detail() -> None:
    raw = json.loads((FIXTURES / "good_python.bin").read_bytes())
    task_id = raw["headers"]["id"]
    raw["headers"]["task"] = "messages.recieve"
    with capture_logs() as lines:
        message = a_gate().admit(json.dumps(raw).encode(), queue="inbound", priority=0)
    letter = letter_in(message)
    assert letter is not None
    assert letter.sender.task_id == task_id == message["headers"]["id"]
    (line,) = lines
    detail = "no task of that name: messages are sent as messages.receive"
    assert (line["task"], line["detail"]) == (task_id, detail)
