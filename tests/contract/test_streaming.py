"""Streamed answers: what each way of ending comes to, byte by byte."""

import json
import socket
from dataclasses import replace

import pytest

from tests.support.processes import eventually
from tests.support.raw_server import (
    RawServer,
    Serve,
    answers,
    http,
    raw_server,
    reset,
    response_object,
)
from tests.support.streams import (
    CHUNKED,
    COMPLETED,
    CREATED,
    CUT,
    DELTAS,
    END,
    HEAD,
    KEY,
    REQUEST,
    ask,
    call,
    chunk,
    delta,
    ended,
    event,
    says,
    streamed,
    unknown,
)
from worker.domain.turns.calls import Done, NotSent
from worker.net.window import CallWindow
from worker.telnyx.client import TelnyxClient

# A stream that goes well.


def test_a_stream_tells_its_text_and_ends_done() -> None:
    with (
        raw_server(answers(streamed(CREATED, delta("Hel"), delta("lo!"), COMPLETED))) as server,
        TelnyxClient(KEY, base_url=server.url) as client,
    ):
        outcome, told = call(client)
    assert isinstance(outcome, Done)
    assert (outcome.status, outcome.text, outcome.request_id) == ("completed", "Hello!", "req-1")
    assert (outcome.response_id, outcome.input_tokens) == ("resp_1", 31)
    assert told == ["Hel", "lo!"]
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert b"Accept: text/event-stream\r\n" in head
    assert json.loads(body)["stream"] is True


def test_the_text_is_told_while_the_rest_is_still_to_come() -> None:
    told: list[str] = []

    def serve(conn: socket.socket, server: RawServer) -> None:
        server.read_request(conn)
        conn.sendall(CHUNKED + chunk(CREATED + delta("Hel")))
        early = eventually(lambda: bool(told), timeout_s=5)
        conn.sendall(chunk(delta("lo!" if early else "too late") + COMPLETED) + END)

    with raw_server(serve) as server, TelnyxClient(KEY, base_url=server.url) as client:
        client.responses.create(REQUEST, CallWindow.starting_now(10), told.append)
    assert told == ["Hel", "lo!"]


def test_an_answer_that_is_not_streamed_is_asked_for_as_ever() -> None:
    with (
        raw_server(answers(http(response_object("Hello!")))) as server,
        TelnyxClient(KEY, base_url=server.url) as client,
    ):
        outcome, told = call(client, replace(REQUEST, stream=False))
    assert isinstance(outcome, Done)
    assert told == []
    assert b"stream" not in server.requests[0]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_any_line_ends_and_any_chunks_give_the_same(size: int) -> None:
    body = b"\xef\xbb\xbf: hi\r\n" + CREATED.replace(b"\n", b"\r\n") + DELTAS.replace(b"\n", b"\r")
    body += COMPLETED
    chunks = b"".join(chunk(body[start : start + size]) for start in range(0, len(body), size))
    outcome, told = ask(says(CHUNKED + chunks + END))
    assert isinstance(outcome, Done)
    assert told == ["Hel", "lo!"]


def test_a_body_that_ends_with_the_connection_is_complete_with_its_verdict() -> None:
    outcome, _ = ask(says(HEAD + b"\r\n" + CREATED + COMPLETED))
    assert isinstance(outcome, Done)


def test_the_json_names_an_event_whose_field_does_not() -> None:
    unnamed = [b"data: " + each.partition(b"data: ")[2] for each in (CREATED, DELTAS, COMPLETED)]
    misnamed = [b"event: message\n" + each for each in unnamed]
    for events in (unnamed, misnamed):
        assert isinstance(ask(says(streamed(*events)))[0], Done)


def test_the_field_names_an_event_whose_json_does_not() -> None:
    bare = json.dumps({"response": response_object("Hello!")}).encode()
    outcome, _ = ask(says(streamed(b"event: response.completed\ndata: " + bare + b"\n\n")))
    assert isinstance(outcome, Done)


def test_what_is_no_event_of_a_response_is_passed_over() -> None:
    noise = [b": ping\n\n", b"data: not json\n\n", b"event: ping\ndata: {}\n\n", b"data: []\n\n"]
    noise += [event("response.something.new", x=1), b"data: 7\n\n", b"data: null\n\n", b"foo\n\n"]
    noise += [event("response.output_text.delta"), event("response.output_item.done", item=3)]
    outcome, told = ask(says(streamed(*noise, DELTAS, *noise, COMPLETED)))
    assert isinstance(outcome, Done)
    assert told == ["Hel", "lo!"]


# Terminal events.


@pytest.mark.parametrize("status", ["incomplete", "failed"])
def test_an_unhappy_end_is_an_end(status: str) -> None:
    details = {"incomplete_details": {"reason": "max_output_tokens"}}
    outcome, _ = ask(says(streamed(CREATED, DELTAS, ended(status, **details))))
    assert isinstance(outcome, Done)
    assert (outcome.status, outcome.incomplete_reason) == (status, "max_output_tokens")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (event("error", code="server_error", message="Dear Mr. Miller"), "server_error"),
        (event("error", code=500, message="m"), "500"),
        (event("error", code="Dear Mr. Miller"), ""),
        (event("error", code=None), ""),
        (b"event: error\ndata: it broke\n\n", ""),
        (b'event: error\ndata: {"type":"server_error","message":"m"}\n\n', ""),
        (b'data: {"error":{"message":"m","code":"overloaded"}}\n\n', "overloaded"),
        (b'data: {"errors":[{"code":"10007","title":"t"}]}\n\n', "10007"),
        (b'data: {"error":"it broke"}\n\n', ""),
    ],
)
def test_an_error_within_a_stream_is_unknown_and_named(failure: bytes, reason: str) -> None:
    outcome, _ = ask(says(streamed(CREATED, DELTAS, failure, COMPLETED)))
    assert outcome == unknown(f"stream error {reason}".strip())


def test_a_verdict_that_cannot_be_read_is_none() -> None:
    for data in (b"{", b"{}", b'{"response":null}'):
        broken = b"event: response.completed\ndata: " + data + b"\n\n"
        outcome, _ = ask(says(streamed(CREATED, broken)))
        assert outcome == unknown("2xx without a readable response object")


def test_a_verdict_that_says_it_is_none_is_none() -> None:
    response = {**response_object(), "status": "in_progress"}
    outcome, _ = ask(says(streamed(event("response.completed", response=response))))
    assert outcome == unknown("2xx before the response was over")


# A response object that leaves out what the events have said.

MESSAGE = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hello!"}],
}
CALL = {"type": "function_call", "call_id": "call_1", "name": "get_order", "arguments": "{}"}


@pytest.mark.parametrize("slim", [{"id": "resp_1"}, {"status": "completed", "output": []}])
def test_an_output_that_is_left_out_is_taken_from_the_items(slim: dict[str, object]) -> None:
    items = [
        event("response.output_item.done", output_index=1, item=CALL),
        event("response.output_item.done", output_index=0, item=MESSAGE),
    ]
    outcome, _ = ask(says(streamed(*items, event("response.completed", response=slim))))
    assert isinstance(outcome, Done)
    assert (outcome.status, outcome.text) == ("completed", "Hello!")
    assert outcome.output == (MESSAGE, CALL)
    assert [each.name for each in outcome.tool_calls] == ["get_order"]


def test_an_output_that_is_there_is_not_mixed_with_the_items() -> None:
    item = event("response.output_item.done", output_index=5, item=CALL)
    outcome, _ = ask(says(streamed(item, COMPLETED)))
    assert isinstance(outcome, Done)
    assert len(outcome.output) == 1


def test_a_failed_response_is_not_filled_up() -> None:
    item = event("response.output_item.done", output_index=0, item=CALL)
    outcome, _ = ask(says(streamed(item, ended("failed", output=[]))))
    assert isinstance(outcome, Done)
    assert outcome.output == ()


def test_a_text_that_was_told_and_is_in_no_output_is_looked_for_elsewhere() -> None:
    outcome, _ = ask(says(streamed(DELTAS, event("response.completed", response={"id": "r"}))))
    assert outcome == unknown("stream without its output")


# A stream that does not reach its end.

UMLAUT = "data: ü".encode()[:-1]


@pytest.mark.parametrize(
    ("serve", "reason"),
    [
        (says(CUT + END), "stream ended without a verdict"),
        (says(HEAD + b"\r\n" + CREATED), "stream ended without a verdict"),
        (says(CUT + chunk(b"data: [DONE]\n\n") + END), "stream ended without a verdict"),
        (says(CUT + chunk(b"data: [DONE]\n\n" + COMPLETED)), "stream ended without a verdict"),
        (says(CUT + chunk(COMPLETED[:-1]) + END), "stream ended within an event"),
        (says(CUT + chunk(UMLAUT) + END), "stream ended within a character"),
        (says(CUT), "ended early"),
        (says(CUT + chunk(COMPLETED[:-10])), "stream cut within an event"),
        (says(CUT + chunk(UMLAUT)), "stream cut within a character"),
        (says(CUT + b"zz\r\n"), "not HTTP"),
        (says(CHUNKED + END), "stream ended without a verdict"),
        (says(CHUNKED), "ended early"),
    ],
)
def test_each_early_end_is_unknown_and_named(serve: Serve, reason: str) -> None:
    outcome, _ = ask(serve)
    assert outcome == unknown(reason)


def test_a_reset_is_unknown() -> None:
    seen: list[str] = []

    def serve(conn: socket.socket, server: RawServer) -> None:
        server.read_request(conn)
        conn.sendall(CUT)
        eventually(lambda: bool(seen), timeout_s=5)
        reset(conn)

    with raw_server(serve) as server, TelnyxClient(KEY, base_url=server.url) as client:
        outcome = client.responses.create(REQUEST, CallWindow.starting_now(10), seen.append)
    assert outcome == unknown("read: ConnectionResetError")


def test_an_event_without_end_is_given_up() -> None:
    def flood(conn: socket.socket) -> None:
        for _ in range(100):
            conn.sendall(chunk(b"x" * 1_000_000))

    outcome, _ = ask(says(CHUNKED + chunk(b"data: "), flood), timeout_s=60)
    assert outcome == unknown("event larger than 8388608 bytes")


def test_a_connection_that_does_not_come_about_is_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v2"
    with TelnyxClient(KEY, base_url=url) as client:
        assert isinstance(call(client)[0], NotSent)
