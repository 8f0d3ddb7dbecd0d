"""Streamed answers: what each way of ending comes to, against the simulator and byte by byte."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import repeat
from uuid import uuid4

import pytest
from pydantic import SecretStr

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
from worker.domain.ids import TelnyxConversationId
from worker.domain.turns.calls import CallOutcome, Done, Fault, NotSent, Refused, Unknown
from worker.net.window import CallWindow
from worker.sandbox.simulator import Simulator, SimulatorConfig, running_simulator
from worker.telnyx.client import TelnyxClient
from worker.telnyx.responses import ResponseRequest

KEY = SecretStr("KEY0123456789_secret")
MODEL = "zai-org/GLM-5.3-Flash"
ITEM = {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
REQUEST = ResponseRequest(model=MODEL, input=(ITEM,), stream=True)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Request-ID: req-1\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
SLACK_S = 5.0
"""A bound against hanging, no measurement: the machine may be busy."""


def event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def delta(text: str) -> bytes:
    return event("response.output_text.delta", delta=text, output_index=0, content_index=0)


def ended(status: str = "completed", **changes: object) -> bytes:
    response = {**response_object("Hello!"), "status": status, **changes}
    return event(f"response.{status}", response=response)


CREATED = event("response.created", response={"status": "in_progress", "output": []})
DELTAS = delta("Hel") + delta("lo!")
COMPLETED = ended()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def streamed(*events: bytes) -> bytes:
    """Return a whole answer, one chunk an event, properly ended."""
    return CHUNKED + b"".join(chunk(each) for each in events) + END


def says(data: bytes, then: Callable[[socket.socket], object] = socket.socket.close) -> Serve:
    """Serve these bytes, and then do that."""

    def serve(conn: socket.socket, server: RawServer) -> None:
        server.read_request(conn)
        conn.sendall(data)
        then(conn)

    return serve


def call(
    client: TelnyxClient, request: ResponseRequest = REQUEST, timeout_s: float = 10
) -> tuple[CallOutcome, list[str]]:
    told: list[str] = []
    window = CallWindow.starting_now(timeout_s)
    return client.responses.create(request, window, told.append), told


def ask(
    serve: Serve, request: ResponseRequest = REQUEST, timeout_s: float = 10
) -> tuple[CallOutcome, list[str]]:
    """Call a server once; it must not take much longer than its deadline."""
    started = time.monotonic()
    with raw_server(serve) as server, TelnyxClient(KEY, base_url=server.url) as client:
        result = call(client, request, timeout_s)
        assert time.monotonic() - started < timeout_s + SLACK_S
        assert server.connections == len(server.requests) == 1
    return result


def unknown(reason: str) -> Unknown:
    return Unknown(reason=reason, status=200, request_id="req-1")


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

CUT = CHUNKED + chunk(CREATED + DELTAS)
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


# Time.


def trickle(pieces: Iterator[bytes]) -> Callable[[socket.socket], None]:
    def then(conn: socket.socket) -> None:
        for piece in pieces:
            conn.sendall(chunk(piece))
            time.sleep(0.05)

    return then


ENDLESS = {
    "comments": b": keep-alive\n\n",
    "line ends": b"\n",
    "pings": b"event: ping\ndata: {}\n\n",
    "keep-alive events": event("keepalive", sequence_number=3),
    "half an event": b"data: x\n",
    "one byte": b"x",
}


@pytest.mark.parametrize("what", ENDLESS)
def test_every_byte_is_a_sign_of_life_and_the_deadline_stays(what: str) -> None:
    request = replace(REQUEST, stream_idle_s=0.9)
    serve = says(CUT, trickle(repeat(ENDLESS[what])))
    outcome, told = ask(serve, request, timeout_s=1.0)
    assert outcome == unknown("deadline passed")
    assert told == ["Hel", "lo!"]


@pytest.mark.parametrize("what", ["comments", "line ends", "pings", "keep-alive events"])
def test_a_model_that_thinks_for_longer_than_the_silence_is_heard_to_its_end(what: str) -> None:
    request = replace(REQUEST, stream_idle_s=0.7)
    thinking = [ENDLESS[what]] * 16
    serve = says(CHUNKED, trickle([*thinking, DELTAS, COMPLETED, b""]))
    outcome, told = ask(serve, request, timeout_s=10)
    assert isinstance(outcome, Done)
    assert told == ["Hel", "lo!"]


def test_a_stream_that_stops_is_silent() -> None:
    def serve(conn: socket.socket, server: RawServer) -> None:
        server.read_request(conn)
        conn.sendall(CHUNKED)
        server.gone.wait(30)

    outcome, _ = ask(serve, replace(REQUEST, stream_idle_s=0.3), timeout_s=30)
    assert outcome == unknown("stream silent")


def test_events_break_the_silence_but_not_the_deadline() -> None:
    request = replace(REQUEST, stream_idle_s=0.9)
    outcome, told = ask(says(CUT, trickle(repeat(delta("x")))), request, timeout_s=1.0)
    assert outcome == unknown("deadline passed")
    assert len(told) > 2


def test_without_an_idle_time_only_the_deadline_ends_a_silence() -> None:
    outcome, _ = ask(says(CUT, trickle(repeat(b": ping\n\n"))), timeout_s=0.5)
    assert outcome == unknown("deadline passed")


def test_the_wait_for_the_head_is_no_silence() -> None:
    def serve(conn: socket.socket, server: RawServer) -> None:
        server.read_request(conn)
        time.sleep(0.4)
        conn.sendall(streamed(COMPLETED))

    outcome, _ = ask(serve, replace(REQUEST, stream_idle_s=0.2))
    assert isinstance(outcome, Done)


# JSON, or a no, where a stream was asked for.


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/event-stream"}])
@pytest.mark.parametrize("before", [b"", b" \r\n", b"\xef\xbb\xbf"])
def test_json_in_place_of_a_stream_is_judged_as_such(
    headers: dict[str, str], before: bytes
) -> None:
    body = before + json.dumps(response_object("Hello!")).encode()
    outcome, told = ask(says(http(body, headers=headers)))
    assert isinstance(outcome, Done)
    assert (outcome.text, told) == ("Hello!", [])


def test_json_in_place_of_a_stream_is_known_from_its_bytes_however_they_are_cut() -> None:
    body = b"\xef\xbb\xbf\r\n" + json.dumps(response_object("Hello!")).encode()
    bytewise = b"".join(chunk(body[at : at + 1]) for at in range(len(body)))

    def slowly(conn: socket.socket) -> None:
        for at in range(len(body)):
            conn.sendall(chunk(body[at : at + 1]))
            time.sleep(0.01 if at < 8 else 0)
        conn.sendall(END)

    for serve in (says(CHUNKED + bytewise + END), says(CHUNKED, slowly)):
        outcome, _ = ask(serve)
        assert isinstance(outcome, Done)


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_what_says_it_is_json_is_read_as_json(media_type: str) -> None:
    outcome, _ = ask(says(http(b"[1]", headers={"Content-Type": media_type})))
    assert outcome == Unknown(reason="2xx without a readable response object", status=200)


def test_json_that_takes_its_time_is_no_silent_stream() -> None:
    body = json.dumps(response_object("Hello!")).encode()

    def slowly(conn: socket.socket) -> None:
        for start in range(0, len(body), 40):
            time.sleep(0.1)
            conn.sendall(chunk(body[start : start + 40]))
        conn.sendall(END)

    outcome, _ = ask(says(CHUNKED, slowly), replace(REQUEST, stream_idle_s=0.3))
    assert isinstance(outcome, Done)


def test_a_refusal_is_a_refusal() -> None:
    error = {"errors": [{"code": "10011", "title": "t"}]}
    outcome, _ = ask(says(http(error, status=429, headers={"Retry-After": "7"})))
    assert outcome == Refused(status=429, fault=Fault.RATE, code="10011", retry_after_s=7.0)


# The connection afterwards.


def connections_of_two(first: bytes, timeout_s: float = 10) -> tuple[int, list[str]]:
    """Call twice; the first answer is this, on a connection that is left open."""

    def serve(conn: socket.socket, server: RawServer) -> None:
        while server.read_request(conn):
            conn.sendall(first if len(server.requests) == 1 else streamed(COMPLETED))

    with raw_server(serve) as server, TelnyxClient(KEY, base_url=server.url) as client:
        outcomes = [call(client, timeout_s=timeout_s)[0], call(client)[0]]
    assert isinstance(outcomes[1], Done)
    return server.connections, [type(one).__name__ for one in outcomes]


def test_a_connection_whose_stream_was_ended_is_used_again() -> None:
    after = chunk(b"data: [DONE]\n\n") + chunk(b": bye\n\n") + END
    assert connections_of_two(streamed(COMPLETED)) == (1, ["Done", "Done"])
    assert connections_of_two(CHUNKED + chunk(COMPLETED) + after) == (1, ["Done", "Done"])
    assert connections_of_two(http(response_object()))[0] == 1
    assert connections_of_two(streamed(CREATED)) == (1, ["Unknown", "Done"])


def test_a_connection_whose_stream_was_cut_is_not_used_again() -> None:
    assert connections_of_two(CUT, 0.4) == (2, ["Unknown", "Done"])
    assert connections_of_two(CUT + b"zz\r\n", 0.4) == (2, ["Unknown", "Done"])
    assert connections_of_two(streamed(COMPLETED) + http(b"of a stranger"))[0] == 2


def test_an_end_that_does_not_come_is_not_waited_for() -> None:
    def serve(conn: socket.socket, server: RawServer) -> None:
        if server.read_request(conn):
            conn.sendall(CHUNKED + chunk(COMPLETED))
            trickle(repeat(b": still here\n\n", 1000))(conn)

    started = time.monotonic()
    with raw_server(serve) as server, TelnyxClient(KEY, base_url=server.url) as client:
        for _ in range(2):
            assert isinstance(call(client, timeout_s=60)[0], Done)
        assert time.monotonic() - started < SLACK_S
    assert server.connections == 2


def test_a_listener_that_raises_does_not_cost_the_answer() -> None:
    heard: list[str] = []

    def on_text(text: str) -> None:
        heard.append(text)
        raise RuntimeError("Redis is away")

    with (
        raw_server(answers(streamed(delta("Hel"), delta("lo!"), COMPLETED))) as server,
        TelnyxClient(KEY, base_url=server.url) as client,
    ):
        outcome = client.responses.create(REQUEST, CallWindow.starting_now(10), on_text)
    assert isinstance(outcome, Done)
    assert heard == ["Hel"]


# Against the simulator.


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(SimulatorConfig(list_visible_after_s=0.0)) as running:
        yield running


@pytest.fixture
def client(simulator: Simulator) -> Iterator[TelnyxClient]:
    with TelnyxClient(SecretStr(simulator.api_key), base_url=simulator.base_url) as one:
        yield one
    simulator.clear_faults()


def conversation(client: TelnyxClient) -> TelnyxConversationId:
    return client.conversations.create(uuid4(), "n", {"worker_user": "u"}).id


@pytest.mark.parametrize("marker", [False, True])
def test_a_simulated_stream_is_told_and_stored(
    client: TelnyxClient, simulator: Simulator, marker: bool
) -> None:
    simulator.reconfigure(stream_done_marker=marker)
    thread = conversation(client)
    outcome, told = call(client, replace(REQUEST, conversation=thread))
    assert isinstance(outcome, Done)
    assert outcome.text
    assert "".join(told) == outcome.text
    assert client.conversations.messages(thread)[-1].text == outcome.text


def test_a_simulated_tool_call_comes_out_of_a_stream(client: TelnyxClient) -> None:
    tools = ({"type": "function", "name": "get_order", "parameters": {"type": "object"}},)
    item = {"role": "user", "content": 'tool:get_order {"id":1}'}
    outcome, told = call(client, replace(REQUEST, input=(item,), tools=tools))
    assert isinstance(outcome, Done)
    assert [(one.name, one.arguments) for one in outcome.tool_calls] == [("get_order", '{"id":1}')]
    assert told == []


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("stream_cut", "stream cut within an event"),
        ("cut", "ended early"),
        ("stream_no_terminal", "stream ended without a verdict"),
        ("stream_error", "stream error server_error"),
        ("stream_failed", "failed"),
        ("stream_incomplete", "incomplete"),
        ("stream_json", "completed"),
        ("failed", "failed"),
        ("incomplete", "incomplete"),
        ("refusal", "completed"),
        ("no_message", "completed"),
        ("empty", "stream ended without a verdict"),
        ("trickle", "stream silent"),
        ("stream_keepalive", "deadline passed"),
        ("stored_then_hang", "deadline passed"),
        ("stored_then_dropped", "ended early"),
        ("stored_then_reset", "read: ConnectionResetError"),
        ("429", "429"),
        ("stored_then_503", "503"),
    ],
)
def test_each_fault_of_a_simulated_stream_is_told_apart(
    client: TelnyxClient, simulator: Simulator, fault: str, expected: str
) -> None:
    simulator.inject(fault)
    idle_s = 0.4 if expected == "stream silent" else 1.0
    request = replace(REQUEST, conversation=conversation(client), stream_idle_s=idle_s)
    started = time.monotonic()
    outcome, _ = call(client, request, timeout_s=1.5)
    assert time.monotonic() - started < 1.5 + SLACK_S
    match outcome:
        case Done():
            assert outcome.status == expected
        case Unknown():
            assert outcome.reason == expected
        case Refused():
            assert str(outcome.status) == expected
        case NotSent():
            pytest.fail("it was sent")


def test_a_simulated_stream_that_trickles_past_the_deadline_ends_on_time(
    client: TelnyxClient, simulator: Simulator
) -> None:
    simulator.inject("trickle", interval_s=0.1)
    started = time.monotonic()
    outcome, _ = call(client, replace(REQUEST, stream_idle_s=5.0), timeout_s=0.6)
    assert time.monotonic() - started < 0.6 + SLACK_S
    assert isinstance(outcome, Unknown)
    assert outcome.reason == "deadline passed"
