"""Every fault of the simulator: what the client gets, and what the thread has afterwards."""

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.support.processes import eventually
from worker.sandbox.simulator import (
    FAULTS,
    Endpoint,
    Match,
    Simulator,
    SimulatorConfig,
    running_simulator,
)
from worker.sandbox.simulator.record.events import AnswerDropped, AnswerSent, FaultChosen

PLAIN = SimulatorConfig(
    list_visible_after_s=0,
    messages_order="oldest_first",
    reasoning_listed="hidden",
)
NUMBERS = ("400", "401", "402", "403", "404", "408", "409", "413", "422", "429", "500", "503")
REFUSALS = (*NUMBERS, "429_retry_after", "429_reset", "502_html", "503_empty", "504_html")
SHAPES = ("no_message", "incomplete", "failed", "refusal")
TEXTS = ("think", "think_unclosed", "think_stray", "tool_markup", "invisible")
DISTURBANCES = ("conversation_deleted", "foreign_message", "foreign_message_after")
ITEMS = ("split_items", "merged_items")
SENDING = ("send_lost", "queue_full", "spend_limit", "undelivered")
EVENTS = ("events_lost", "events_twice", "events_reversed", "events_forged", "events_first")
"""Both played by the tests of text messages."""
READS = ("stale_reads", "late_listing")
"""`stale_reads` is played by the tests of messages."""
STREAMS = tuple(name for name in FAULTS if name.startswith("stream_"))
"""Played by the tests of streams."""


@dataclass(frozen=True)
class Broken:
    """A fault without a readable answer: what the client sees, and what is stored in the end."""

    name: str
    error: type[httpx.HTTPError] | None
    stored: tuple[str, ...]
    header: str = ""


BROKEN = (
    Broken("hang", httpx.ReadTimeout, ()),
    Broken("dropped", httpx.RemoteProtocolError, ()),
    Broken("reset", httpx.ReadError, ()),
    Broken("stored_then_hang", httpx.ReadTimeout, ("user", "assistant")),
    Broken("stored_then_dropped", httpx.RemoteProtocolError, ("user", "assistant")),
    Broken("stored_then_reset", httpx.ReadError, ("user", "assistant")),
    Broken("input_then_hang", httpx.ReadTimeout, ("user",)),
    Broken("input_then_dropped", httpx.RemoteProtocolError, ("user",)),
    Broken("stored_late", httpx.RemoteProtocolError, ("user", "assistant"), "; after_s=0.3"),
    Broken("late_execution", httpx.ReadTimeout, ("user", "assistant"), "; after_s=0.3"),
    Broken("cut", httpx.RemoteProtocolError, ("user", "assistant")),
    Broken("cut", httpx.RemoteProtocolError, (), "; storing=nothing"),
    Broken("truncated", None, ("user", "assistant")),
    Broken("empty", None, ("user", "assistant")),
)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with running_simulator(PLAIN) as running:
        yield running


def ask(
    api: httpx.Client, thread: str, fault: str = "", text: str = "hello", timeout_s: float = 5
) -> httpx.Response:
    headers = {"x-sim-fault": fault} if fault else {}
    body = {"conversation": thread, "input": text}
    return api.post("/ai/openai/responses", json=body, headers=headers, timeout=timeout_s)


def roles(sim: Simulator, thread: str) -> tuple[str, ...]:
    return tuple(each.role for each in sim.messages(thread))


def test_every_fault_is_in_one_of_the_tables_here() -> None:
    tables = (REFUSALS, SHAPES, TEXTS, DISTURBANCES, ITEMS, READS, STREAMS, SENDING, EVENTS)
    named = {name for table in tables for name in table} | {each.name for each in BROKEN}
    named |= {"trickle", "creation_lost"}
    assert named | {f"stored_then_{name}" for name in REFUSALS} == FAULTS.keys()


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("prefix", ["", "stored_then_"])
def test_a_refusal_says_no_and_has_stored_all_or_nothing(
    sim: Simulator, api: httpx.Client, thread: str, prefix: str, name: str
) -> None:
    answer = ask(api, thread, prefix + name)
    assert answer.status_code == int(name[:3])
    assert roles(sim, thread) == (("user", "assistant") if prefix else ())
    if name.endswith("html"):
        assert answer.headers["content-type"] == "text/html"
        assert answer.text.startswith("<html>")
    elif name.endswith("empty"):
        assert answer.content == b""
    else:
        assert answer.json()["errors"][0]["code"].isdecimal()
    assert answer.headers.get("retry-after") == ("1" if name == "429_retry_after" else None)
    assert answer.headers.get("x-ratelimit-reset") == ("1" if name == "429_reset" else None)


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: fault.name + fault.header)
def test_a_broken_answer_leaves_behind_what_it_should(
    sim: Simulator, api: httpx.Client, thread: str, fault: Broken
) -> None:
    if fault.error is None:
        answer = ask(api, thread, fault.name)
        assert answer.status_code == 200
        with pytest.raises(json.JSONDecodeError):
            answer.json()
    else:
        with pytest.raises(fault.error):
            ask(api, thread, fault.name + fault.header, timeout_s=0.2)
    assert eventually(lambda: roles(sim, thread) == fault.stored)
    assert eventually(lambda: not any(entry_is_open(sim, number) for number in requests(sim)))
    assert roles(sim, thread) == fault.stored


def requests(sim: Simulator) -> list[int]:
    return [entry.seq for entry in sim.log() if entry.event.kind == "request_received"]


def entry_is_open(sim: Simulator, number: int) -> bool:
    events = [entry.event for entry in sim.log()]
    return not any(e.kind == "execution_ended" and e.request == number for e in events)


@pytest.mark.parametrize("name", ["stored_late", "late_execution"])
def test_what_is_stored_late_is_not_there_at_first(
    sim: Simulator, api: httpx.Client, thread: str, name: str
) -> None:
    with pytest.raises(httpx.HTTPError):
        ask(api, thread, f"{name}; after_s=0.3", timeout_s=0.1)
    assert eventually(lambda: roles(sim, thread) == ("user", "assistant"))
    log = [(entry.at, entry.event.kind) for entry in sim.log()]
    (left,) = (at for at, kind in log if kind == "answer_dropped")
    assert all(at >= left + 0.1 for at, kind in log if kind == "message_stored")


def test_a_late_execution_waits_for_the_client_to_leave(
    sim: Simulator, api: httpx.Client, thread: str
) -> None:
    asked = time.clock_gettime(time.CLOCK_BOOTTIME)
    with pytest.raises(httpx.ReadTimeout):
        ask(api, thread, "late_execution; after_s=0", timeout_s=0.4)
    assert eventually(lambda: roles(sim, thread) == ("user", "assistant"))
    stored = next(e.at for e in sim.log() if e.event.kind == "message_stored")
    assert stored - asked >= 0.4


def test_a_trickle_is_one_byte_at_a_time_and_whole_in_the_end(
    sim: Simulator, api: httpx.Client, thread: str
) -> None:
    started = time.monotonic()
    answer = ask(api, thread, "trickle; interval_s=0.0005")
    assert answer.json()["status"] == "completed"
    assert time.monotonic() - started > 0.0005 * len(answer.content)
    with (
        api.stream(
            "POST",
            "/ai/openai/responses",
            json={"conversation": thread, "input": "again"},
            headers={"x-sim-fault": "trickle; interval_s=0.05"},
        ) as slow,
    ):
        pieces = slow.iter_raw()
        assert [len(next(pieces)) for _ in range(3)] == [1, 1, 1]
    assert roles(sim, thread) == ("user", "assistant", "user", "assistant")


@pytest.mark.parametrize(
    ("name", "status", "kinds", "stored"),
    [
        ("no_message", "completed", ["reasoning"], ("user",)),
        ("incomplete", "incomplete", ["reasoning", "message"], ("user", "assistant")),
        ("failed", "failed", [], ("user",)),
        ("refusal", "completed", ["reasoning", "message"], ("user", "assistant")),
        *((name, "completed", ["reasoning", "message"], ("user", "assistant")) for name in TEXTS),
    ],
)
def test_an_output_can_be_of_another_shape(
    sim: Simulator,
    api: httpx.Client,
    thread: str,
    name: str,
    status: str,
    kinds: list[str],
    stored: tuple[str, ...],
) -> None:
    body = ask(api, thread, name).json()
    assert body["status"] == status
    assert [item["type"] for item in body["output"]] == kinds
    assert (body["error"] is not None) is (name == "failed")
    assert (body["incomplete_details"] is not None) is (name == "incomplete")
    if name == "refusal":
        assert body["output"][1]["content"][0]["type"] == "refusal"
    assert roles(sim, thread) == stored


def test_a_deleted_conversation_is_unknown_from_then_on(
    sim: Simulator, api: httpx.Client, thread: str
) -> None:
    assert ask(api, thread, "conversation_deleted").status_code == 404
    assert api.get(f"/ai/conversations/{thread}").status_code == 404
    assert sim.conversations() == ()


def test_a_foreign_message_comes_before_or_after(
    sim: Simulator, api: httpx.Client, thread: str
) -> None:
    ask(api, thread, "foreign_message; foreign_text=x")
    ask(api, thread, "foreign_message_after; foreign_role=assistant; foreign_text=y")
    foreign = [n for n, each in enumerate(sim.messages(thread)) if each.origin == "foreign"]
    assert foreign == [0, 5]


def test_items_can_be_split_and_merged(sim: Simulator, api: httpx.Client, thread: str) -> None:
    ask(api, thread, "split_items", "abcd")
    assert [each.text for each in sim.messages(thread)][:2] == ["ab", "cd"]
    with pytest.raises(httpx.RemoteProtocolError):
        ask(api, thread, "input_then_dropped", "one")
    ask(api, thread, "merged_items", "two")
    assert [each.text for each in sim.messages(thread) if each.role == "user"][2:] == ["one two"]


def test_a_creation_can_be_answered_but_lost_and_its_key_replays_it(
    sim: Simulator, api: httpx.Client
) -> None:
    sim.inject("creation_lost")
    keyed = {"idempotency-key": "k"}
    with pytest.raises(httpx.RemoteProtocolError):
        api.post("/ai/conversations", json={}, headers=keyed)
    again = api.post("/ai/conversations", json={}, headers=keyed)
    assert again.headers["idempotent-replayed"] == "true"
    assert [again.json()["id"]] == [each.id for each in sim.conversations()]


def test_a_listing_can_be_late(sim: Simulator, api: httpx.Client, thread: str) -> None:
    sim.inject("late_listing")
    found = [api.get("/ai/conversations").json()["data"] for _ in "ab"]
    assert [len(each) for each in found] == [0, 1]
    assert found[1][0]["id"] == thread


def test_an_order_waits_for_its_requests_and_skips_and_counts(
    sim: Simulator, api: httpx.Client, thread: str
) -> None:
    sim.inject("500", skip=1, count=2)
    assert len(sim.pending_faults()) == 1
    statuses = [ask(api, thread).status_code for _ in range(4)]
    assert statuses == [200, 500, 500, 200]
    assert sim.pending_faults() == ()


def test_an_order_can_be_for_one_text_or_conversation_or_endpoint(
    sim: Simulator, api: httpx.Client, thread: str
) -> None:
    other = api.post("/ai/conversations").json()["id"]
    sim.inject("500", match=Match(text="poison"))
    sim.inject("503", match=Match(conversation_id=other))
    sim.inject("429", match=Match(endpoint=Endpoint.MESSAGES))
    assert ask(api, thread).status_code == 200
    assert ask(api, thread, text="a poison pill").status_code == 500
    assert ask(api, other).status_code == 503
    assert api.get(f"/ai/conversations/{thread}/messages").status_code == 429
    sim.inject("402", match=Match(endpoint=Endpoint.ANY), count=None)
    assert {api.get("/ai/openai/models").status_code, ask(api, thread).status_code} == {402}
    sim.clear_faults()
    assert ask(api, thread).status_code == 200


def test_parts_of_a_fault_can_be_changed(sim: Simulator, api: httpx.Client, thread: str) -> None:
    sim.inject("400", status=418, code="20100", storing="input")
    answer = ask(api, thread)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (418, "20100")
    assert roles(sim, thread) == ("user",)


def test_a_fault_that_makes_no_sense_is_refused(
    sim: Simulator, api: httpx.Client, thread: str
) -> None:
    with pytest.raises(ValueError, match="no such fault"):
        sim.inject("nonsense")
    with pytest.raises(ValueError, match="no such part"):
        sim.inject("500", colour="red")
    for header in ("nonsense", "500; colour=red", "500; status=many"):
        assert ask(api, thread, header).status_code == 422


def test_chances_hit_the_same_requests_with_the_same_seed() -> None:
    def statuses(seed: int) -> list[int]:
        config = SimulatorConfig(seed=seed, fault_chances={"500": 0.3, "429": 0.2})
        with running_simulator(config) as sim:
            headers = {"authorization": f"Bearer {sim.api_key}"}
            with httpx.Client(base_url=sim.base_url, headers=headers) as api:
                body = {"input": "hello"}
                answers = [api.post("/ai/openai/responses", json=body) for _ in range(60)]
            return [each.status_code for each in answers]

    assert statuses(1) == statuses(1)
    assert {200, 429, 500} == set(statuses(1))
    assert statuses(1) != statuses(2)


def test_the_log_says_which_fault_hit_and_what_became_of_the_answer(
    sim: Simulator, api: httpx.Client, thread: str
) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        ask(api, thread, "stored_then_dropped")
    with pytest.raises(httpx.RemoteProtocolError):
        ask(api, thread, "cut")
    ask(api, thread)
    events = [entry.event for entry in sim.log()]
    chosen = [each for each in events if isinstance(each, FaultChosen)]
    assert [(each.name, each.source) for each in chosen] == [
        ("stored_then_dropped", "header"),
        ("cut", "header"),
    ]
    dropped = [each for each in events if isinstance(each, AnswerDropped)]
    assert [(each.reason, each.status) for each in dropped] == [("fault", 200), ("fault", 200)]
    assert [each.body_bytes > 0 for each in dropped] == [False, True]
    assert sum(isinstance(each, AnswerSent) for each in events) == 2


def test_a_client_that_sends_half_a_request_leaves_no_trace_but_harms_nobody(
    sim: Simulator, api: httpx.Client, thread: str
) -> None:
    host, port = sim.root_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v2/ai/openai/responses HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"
        )
    assert ask(api, thread).status_code == 200
