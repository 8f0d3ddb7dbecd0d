"""A server that does its worst to one POST: what the call comes to, and that it ends in time."""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat

import pytest
from pydantic import SecretStr

from tests.support.bad_servers import (
    Certificate,
    half_a_body,
    hang,
    hang_up,
    never_read,
    over_tls,
    reset_after_request,
    trickle,
    trickle_body,
    trickle_head,
)
from tests.support.raw_server import RawServer, answers, http, raw_server, reset, response_object
from worker.domain.turns.calls import CallOutcome, Done, Fault, NotSent, Refused, Unknown
from worker.net.answer import IncompleteAnswerError
from worker.net.clock import boottime
from worker.net.dial import connect_one_of, dial, tls_context
from worker.net.window import CallWindow
from worker.telnyx.client import TelnyxClient
from worker.telnyx.responses import ResponseRequest

KEY = SecretStr("KEY0123456789_secret")
REQUEST = ResponseRequest(model="m", input=({"role": "user", "content": "Hello"},))
DONE = http(response_object("Hello!"), headers={"X-Request-ID": "req-1"})
TIMEOUT_S = 0.6
"""Of a call that meets silence. Any other has `SLACK_S`."""
SLACK_S = 5.0
"""A bound against hanging, no measurement: the machine may be busy."""

Serve = Callable[[socket.socket, RawServer], None]


def post(
    url: str, window: CallWindow | None = None, request: ResponseRequest = REQUEST
) -> CallOutcome:
    with TelnyxClient(KEY, base_url=url) as client:
        return client.responses.create(request, window or CallWindow.starting_now(SLACK_S))


def outcome_of(serve: Serve, timeout_s: float = SLACK_S) -> CallOutcome:
    started = time.monotonic()
    with raw_server(serve) as server:
        outcome = post(server.url, CallWindow.starting_now(timeout_s))
        assert time.monotonic() - started < timeout_s + SLACK_S
        assert len(server.requests) <= 1
        assert server.connections == 1
    return outcome


def test_a_complete_answer_is_done() -> None:
    with raw_server(answers(DONE)) as server:
        outcome = post(server.url)
    assert isinstance(outcome, Done)
    assert (outcome.text, outcome.request_id) == ("Hello!", "req-1")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /v2/ai/openai/responses HTTP/1.1",
        b"Host: 127.0.0.1:%d" % server.port,
        b"Authorization: Bearer KEY0123456789_secret",
        b"Accept: application/json",
        b"Accept-Encoding: identity",
        b"User-Agent: message-worker",
        b"Content-Length: %d" % len(body),
        b"Content-Type: application/json",
    ]
    assert body == b'{"model":"m","input":[{"role":"user","content":"Hello"}]}'


@pytest.mark.parametrize("serve", [hang, trickle_head, trickle_body])
def test_the_deadline_ends_an_answer_that_does_not_come_or_does_not_end(serve: Serve) -> None:
    assert outcome_of(serve, TIMEOUT_S) == Unknown(reason="deadline passed")


def test_the_deadline_ends_a_request_that_is_not_taken() -> None:
    big = ResponseRequest(model="m", input=({"role": "user", "content": "x" * 16_000_000},))

    started = time.monotonic()
    with raw_server(never_read) as server:
        outcome = post(server.url, CallWindow.starting_now(3), big)
        assert time.monotonic() - started < 3 + SLACK_S
    assert outcome == Unknown(reason="deadline passed")


def cut_body(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)
    conn.sendall(DONE[:-3])


def cut_chunk(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)
    conn.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    conn.sendall(b'16\r\n{"status":"completed"}\r\n')


@pytest.mark.parametrize("serve", [cut_body, half_a_body, cut_chunk, hang_up])
def test_an_answer_that_ends_early_is_unknown(serve: Serve) -> None:
    assert outcome_of(serve) == Unknown(reason="ended early")


def test_a_reset_after_the_request_is_unknown() -> None:
    assert outcome_of(reset_after_request) == Unknown(reason="read: ConnectionResetError")


def test_a_reset_before_the_request_was_read_is_unknown() -> None:
    def serve(conn: socket.socket, _: RawServer) -> None:
        # Not before a byte has come: then none would have been written.
        select.select([conn], [], [], 5)
        reset(conn)

    assert isinstance(outcome_of(serve), Unknown)


GARBAGE = [
    b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    b"\x00" * 200_000,
    b"HTTP/1.1 200 OK\r\nx: " + b"a" * 200_000,
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_is_not_http_is_unknown_and_not_quoted(garbage: bytes) -> None:
    def serve(conn: socket.socket, server: RawServer) -> None:
        server.read_request(conn)
        conn.sendall(garbage)
        server.gone.wait(30)

    assert outcome_of(serve) == Unknown(reason="not HTTP")


def test_an_answer_without_an_end_is_given_up() -> None:
    def serve(conn: socket.socket, server: RawServer) -> None:
        server.read_request(conn)
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(1000):
            conn.sendall(b" " * 1_000_000)

    with raw_server(serve) as server:
        outcome = post(server.url, CallWindow.starting_now(60))
    assert outcome == Unknown(reason="answer larger than 8388608 bytes")


def test_a_redirect_is_refused_and_not_followed() -> None:
    there = http(status=307, headers={"Location": "/v2/elsewhere"})
    with raw_server(answers(there, DONE)) as server:
        outcome = post(server.url)
    assert outcome == Refused(status=307, fault=Fault.ACCOUNT)
    assert len(server.requests) == 1


def test_a_refusal_before_the_request_was_read_whole_is_heard() -> None:
    big = ResponseRequest(model="m", input=({"role": "user", "content": "x" * 3_000_000},))

    def serve(conn: socket.socket, server: RawServer) -> None:
        conn.recv(1000)
        conn.sendall(http(status=413, headers={"Connection": "close"}))
        while conn.recv(65536):
            pass

    with raw_server(serve) as server:
        outcome = post(server.url, CallWindow.starting_now(60), big)
    assert outcome == Refused(status=413, fault=Fault.REQUEST)


def test_a_100_continue_is_no_answer() -> None:
    with raw_server(answers(b"HTTP/1.1 100 Continue\r\n\r\n" + DONE)) as server:
        assert isinstance(post(server.url), Done)


# What happens before the first byte: the call may be made again.


def test_a_refused_connection_is_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert post(f"http://127.0.0.1:{port}/v2") == NotSent(reason="connect: ConnectionRefusedError")


def test_a_name_that_does_not_exist_is_not_sent() -> None:
    window = CallWindow.starting_now(60)
    assert post("http://no-such-host.invalid/v2", window) == NotSent(reason="lookup: gaierror")


@contextlib.contextmanager
def black_hole() -> Iterator[tuple[str, int]]:
    """Give the address of a listener with a full queue: to connect neither succeeds nor fails."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.0)
            filler.connect_ex(address)
        time.sleep(0.1)
        yield address


def test_a_connection_that_does_not_come_about_ends_with_the_send_deadline() -> None:
    started = time.monotonic()
    with black_hole() as (host, port):
        window = CallWindow.since(boottime(), timeout_s=60, send_grace_s=0.3)
        outcome = post(f"http://{host}:{port}/v2", window)
    assert outcome == NotSent(reason="connect: TimeoutError")
    assert time.monotonic() - started < SLACK_S


def test_a_dead_address_leaves_time_for_the_next_one() -> None:
    with black_hole() as dead, socket.create_server(("127.0.0.1", 0)) as alive:
        window = CallWindow.since(boottime(), timeout_s=60, send_grace_s=1.0)
        addresses = [(socket.AF_INET, address) for address in (dead, alive.getsockname())]
        connect_one_of(addresses, window).close()
    assert window.left_to_send_s() > 0


def test_many_dead_addresses_do_not_take_longer_than_one() -> None:
    started = time.monotonic()
    window = CallWindow.since(boottime(), timeout_s=60, send_grace_s=0.4)
    with (
        black_hole() as dead,
        pytest.raises(IncompleteAnswerError, match=r"TimeoutError|send deadline"),
    ):
        connect_one_of([(socket.AF_INET, dead)] * 20, window)
    assert time.monotonic() - started < SLACK_S


def test_no_first_byte_leaves_after_the_send_deadline() -> None:
    received: list[bytes] = []
    heard = threading.Event()
    times = chain([0.0], repeat(2.1))  # the connection comes about, then the process sleeps

    def serve(conn: socket.socket, server: RawServer) -> None:
        received.append(conn.recv(100))
        heard.set()

    with raw_server(serve) as server:
        window = CallWindow(send_by=2.0, finish_by=77.0, clock=lambda: next(times))
        outcome = post(server.url, window)
        assert heard.wait(5)
    assert outcome == NotSent(reason="send deadline passed")
    assert received == [b""]
    assert not window.wrote


def test_a_window_that_is_over_does_not_even_connect() -> None:
    with raw_server(hang) as server:
        assert post(server.url, CallWindow.starting_now(-1)) == NotSent(
            reason="send deadline passed"
        )
    assert server.connections == 0


def test_a_window_serves_one_call_only() -> None:
    window = CallWindow.starting_now(60)
    with raw_server(answers(DONE)) as server, TelnyxClient(KEY, base_url=server.url) as client:
        client.responses.create(REQUEST, window)
        with pytest.raises(ValueError, match="one call"):
            client.responses.create(REQUEST, window)
    assert len(server.requests) == 1


# The same over TLS.


def post_tls(port: int, cert: str | None, timeout_s: float) -> CallOutcome:
    url = f"https://localhost:{port}/v2"
    environ = {"SSL_CERT_FILE": cert} if cert else {}
    with TelnyxClient(KEY, base_url=url, environ=environ) as client:
        return client.responses.create(REQUEST, CallWindow.starting_now(timeout_s))


def test_tls_works_and_keeps_the_connection(certificate: Certificate) -> None:
    with raw_server(over_tls(certificate, answers(DONE))) as server:
        url = f"https://localhost:{server.port}/v2"
        environ = {"SSL_CERT_FILE": certificate.cert}
        with TelnyxClient(KEY, base_url=url, environ=environ) as client:
            for _ in range(3):
                window = CallWindow.starting_now(60)
                assert isinstance(client.responses.create(REQUEST, window), Done)
    assert server.connections == 1


def test_a_trickle_over_tls_ends_in_time(certificate: Certificate) -> None:
    with raw_server(over_tls(certificate, trickle_body)) as server:
        outcome = post_tls(server.port, certificate.cert, 1.0)
    assert outcome == Unknown(reason="deadline passed")


def test_a_handshake_that_is_never_answered_is_not_sent(certificate: Certificate) -> None:
    started = time.monotonic()
    with raw_server(never_read) as server:
        assert post_tls(server.port, certificate.cert, 0.4) == NotSent(reason="tls: TimeoutError")
    assert time.monotonic() - started < SLACK_S


def test_no_handshake_begins_after_the_send_deadline(certificate: Certificate) -> None:
    heard = threading.Event()
    times = chain([0.0], repeat(2.1))

    def serve(conn: socket.socket, server: RawServer) -> None:
        if not conn.recv(100):
            heard.set()

    with raw_server(serve) as server:
        window = CallWindow(send_by=2.0, finish_by=77.0, clock=lambda: next(times))
        tls = tls_context({"SSL_CERT_FILE": certificate.cert})
        with pytest.raises(IncompleteAnswerError, match="send deadline"):
            dial(("127.0.0.1", server.port), tls, window)
        assert heard.wait(5)


def test_a_handshake_that_trickles_is_not_sent(certificate: Certificate) -> None:
    def serve(conn: socket.socket, server: RawServer) -> None:
        conn.recv(10000)
        trickle(conn, chain(b"\x16\x03\x03\x40\x00", repeat(0)))

    started = time.monotonic()
    with raw_server(serve) as server:
        assert post_tls(server.port, certificate.cert, 0.6) == NotSent(reason="tls: TimeoutError")
    assert time.monotonic() - started < SLACK_S


def test_a_certificate_of_somebody_else_is_not_sent(certificate: Certificate) -> None:
    with raw_server(over_tls(certificate, answers(DONE))) as server:
        outcome = post_tls(server.port, None, 60)
    assert outcome == NotSent(reason="tls: SSLCertVerificationError")
    assert server.requests == []
