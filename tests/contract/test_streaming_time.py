"""Streamed answers: their time, JSON in their place, and the connection afterwards."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import repeat

import pytest

from tests.support.raw_server import (
    RawServer,
    answers,
    http,
    raw_server,
    response_object,
)
from tests.support.streams import (
    CHUNKED,
    COMPLETED,
    CREATED,
    CUT,
    DELTAS,
    END,
    KEY,
    REQUEST,
    SLACK_S,
    ask,
    call,
    chunk,
    delta,
    event,
    says,
    streamed,
    unknown,
)
from worker.domain.turns.calls import Done, Fault, Refused, Unknown
from worker.net.window import CallWindow
from worker.telnyx.client import TelnyxClient

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

    outcome, _ = ask(says(CHUNKED, slowly), replace(REQUEST, stream_idle_s=0.6))
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
