"""Connections: one for each thread, kept, dropped in time, never giving a stranger's answer."""

import gc
import gzip
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.support.raw_server import RawServer, answers, http, raw_server, reset, response_object
from worker.domain.errors import OutcomeUnknownError, RetryableError, WorkerError
from worker.domain.ids import TelnyxConversationId
from worker.domain.turns.calls import Done, Fault, Refused, Unknown
from worker.net.answer import Answer, IncompleteAnswerError
from worker.net.connection import Connection
from worker.net.window import CallWindow
from worker.telnyx.answers.answer import read_whole
from worker.telnyx.client import TelnyxClient
from worker.telnyx.http.connection_per_thread import ConnectionPerThread
from worker.telnyx.responses import ResponseRequest

KEY_TEXT = "KEY0123456789_secret"
KEY = SecretStr(KEY_TEXT)
REQUEST = ResponseRequest(model="m", input=({"role": "user", "content": "Hello"},))
MODELS = http({"data": []})


def done(text: str) -> bytes:
    return http(response_object(text))


def texts(client: TelnyxClient, count: int) -> list[str]:
    outcomes = [client.responses.create(REQUEST, CallWindow.starting_now(10)) for _ in range(count)]
    return [outcome.text if isinstance(outcome, Done) else repr(outcome) for outcome in outcomes]


def test_one_thread_keeps_its_connection() -> None:
    with (
        raw_server(answers(done("a"), done("b"), done("c"))) as server,
        TelnyxClient(KEY, base_url=server.url) as client,
    ):
        assert texts(client, 3) == ["a", "b", "c"]
    assert server.connections == 1


def test_a_connection_that_was_idle_too_long_is_not_used_again() -> None:
    with (
        raw_server(answers(done("a"))) as server,
        TelnyxClient(KEY, base_url=server.url, keepalive_s=0.05) as client,
    ):
        texts(client, 1)
        time.sleep(0.2)
        texts(client, 1)
    assert server.connections == 2


def test_a_connection_the_server_closed_while_idle_is_replaced() -> None:
    hung_up = threading.Semaphore(0)

    def serve(conn: socket.socket, server: RawServer) -> None:
        server.read_request(conn)
        conn.sendall(done("a"))
        conn.shutdown(socket.SHUT_WR)
        hung_up.release()
        conn.recv(1)

    with raw_server(serve) as server, TelnyxClient(KEY, base_url=server.url) as client:
        for _ in range(3):
            assert texts(client, 1) == ["a"]
            assert hung_up.acquire(timeout=5)
    assert (server.connections, len(server.requests)) == (3, 3)


@pytest.mark.parametrize("end", [socket.socket.close, reset])
def test_a_request_lost_on_a_kept_connection_is_unknown_and_not_repeated(
    end: Callable[[socket.socket], None],
) -> None:
    def serve(conn: socket.socket, server: RawServer) -> None:
        server.read_request(conn)
        conn.sendall(done("a"))
        server.read_request(conn)
        end(conn)

    with raw_server(serve) as server, TelnyxClient(KEY, base_url=server.url) as client:
        assert texts(client, 1) == ["a"]
        outcome = client.responses.create(REQUEST, CallWindow.starting_now(10))
        assert isinstance(outcome, Unknown)
        assert (server.connections, len(server.requests)) == (1, 2)
        assert texts(client, 1) == ["a"]
    assert server.connections == 2


def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_one() -> None:
    with (
        raw_server(answers(done("mine") + done("of a stranger"), done("mine again"))) as server,
        TelnyxClient(KEY, base_url=server.url) as client,
    ):
        assert texts(client, 2) == ["mine", "mine again"]
    assert server.connections == 2


def test_an_answer_nobody_asked_for_that_comes_later_is_not_taken_either() -> None:
    sent = threading.Semaphore(0)

    def serve(conn: socket.socket, server: RawServer) -> None:
        server.read_request(conn)
        conn.sendall(done("mine"))
        time.sleep(0.1)
        conn.sendall(done("of a stranger"))
        sent.release()
        server.gone.wait(30)

    with raw_server(serve) as server, TelnyxClient(KEY, base_url=server.url) as client:
        assert texts(client, 1) == ["mine"]
        assert sent.acquire(timeout=5)
        assert texts(client, 1) == ["mine"]


def test_after_a_call_that_timed_out_its_answer_is_not_taken_for_the_next_one() -> None:
    def serve(conn: socket.socket, server: RawServer) -> None:
        server.read_request(conn)
        if len(server.requests) == 1:
            time.sleep(0.4)
            conn.sendall(done("late"))
        conn.sendall(done("mine"))

    with raw_server(serve) as server, TelnyxClient(KEY, base_url=server.url) as client:
        late = client.responses.create(REQUEST, CallWindow.starting_now(0.2))
        assert late == Unknown(reason="deadline passed")
        assert texts(client, 1) == ["mine"]


def test_fifty_threads_have_fifty_connections_and_their_own_answers() -> None:
    together = threading.Barrier(50, timeout=30)

    def echo(conn: socket.socket, server: RawServer) -> None:
        while request := server.read_request(conn):
            conn.sendall(done(request.rpartition(b'"content":"')[2][:-4].decode()))

    def work(client: TelnyxClient, number: int) -> list[str]:
        together.wait()
        said = []
        for call in range(5):
            request = ResponseRequest(model="m", input=({"content": f"{number}-{call}"},))
            outcome = client.responses.create(request, CallWindow.starting_now(30))
            said.append(outcome.text if isinstance(outcome, Done) else repr(outcome))
        together.wait()
        return said

    with (
        raw_server(echo) as server,
        TelnyxClient(KEY, base_url=server.url) as client,
        ThreadPoolExecutor(50) as pool,
    ):
        for number, said in enumerate(pool.map(lambda n: work(client, n), range(50))):
            assert said == [f"{number}-{call}" for call in range(5)]
    assert server.connections == 50


def test_the_connection_of_a_thread_that_ended_is_closed_when_another_begins() -> None:
    closed = threading.Event()

    def serve(conn: socket.socket, server: RawServer) -> None:
        while server.read_request(conn):
            conn.sendall(done("a"))
        closed.set()

    with raw_server(serve) as server, TelnyxClient(KEY, base_url=server.url) as client:
        for _ in range(2):
            thread = threading.Thread(target=texts, args=(client, 1))
            thread.start()
            thread.join()
        assert closed.wait(5)
        assert server.connections == 2


class Ending(threading.Thread):
    """A thread that ends right after it was found alive."""

    ending = False

    def is_alive(self) -> bool:
        ending, self.ending = self.ending, False
        return ending or super().is_alive()


def test_a_thread_that_ends_while_another_begins_leaves_no_open_socket() -> None:
    with raw_server(answers(done("a"))) as server, TelnyxClient(KEY, base_url=server.url) as client:
        for _ in range(3):
            thread = Ending(target=texts, args=(client, 1))
            thread.start()
            thread.join()
            thread.ending = True
        gc.collect()  # a socket that was forgotten warns, which is an error here


def test_a_closed_client_calls_nobody() -> None:
    with raw_server(answers(MODELS)) as server:
        with TelnyxClient(KEY, base_url=server.url) as client:
            client.model_ids()
        with pytest.raises(RuntimeError, match="closed"):
            client.model_ids()
    assert len(server.requests) == 1


# What must never come out.


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    if error is not None:
        yield error
        yield from chain_of(error.__cause__)
        yield from chain_of(error.__context__)


def everything_said(error: BaseException) -> str:
    """Return what the nosiest of loggers could show: texts, attributes, locals of every frame."""
    said: list[str] = []
    for one in chain_of(error):
        said += [str(one), repr(one), repr(one.args), repr(vars(one))]
        trace = one.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename != __file__:
                said += [repr(value) for value in trace.tb_frame.f_locals.values()]
            trace = trace.tb_next
    return "\n".join(said)


def garble(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)
    conn.sendall(b"Dear Mr. Miller, your order\r\n\r\n")
    server.gone.wait(30)


def refuse(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)
    error = {"code": "10015", "title": "Dear Mr. Miller", "detail": "Dear Mr. Miller"}
    conn.sendall(http({"errors": [error]}, status=400, headers={"x-request-id": "r-1"}))


def drop(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)
    reset(conn)


def refuse_late(conn: socket.socket, server: RawServer) -> None:
    reset(conn)


def hang(conn: socket.socket, server: RawServer) -> None:
    server.gone.wait(30)


@pytest.mark.parametrize("serve", [garble, refuse, drop, refuse_late, hang])
def test_no_error_shows_the_key_or_what_people_wrote(
    serve: Callable[[socket.socket, RawServer], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        raw_server(serve) as server,
        TelnyxClient(KEY, base_url=server.url, timeout_s=1.0) as client,
    ):
        with pytest.raises(WorkerError) as caught:
            client.model_ids()
        assert KEY_TEXT not in repr(client) + repr(vars(client))
    said = everything_said(caught.value)
    assert KEY_TEXT not in said + caplog.text
    assert "Miller" not in "\n".join(str(one) for one in chain_of(caught.value)) + caplog.text
    assert not [one.name for one in caplog.records if one.name.startswith("http")]


def test_an_error_carries_status_and_code() -> None:
    with (
        raw_server(refuse) as server,
        TelnyxClient(KEY, base_url=server.url) as client,
        pytest.raises(WorkerError) as caught,
    ):
        client.model_ids()
    error = caught.value
    assert error.code == "10015"
    assert str(error) == "list models: status 400, code 10015"


@pytest.mark.parametrize("key", ["", "two words", "line\r\nbreak", "Schlüssel", "nul\x00"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(key: str) -> None:
    with pytest.raises(ValueError, match="API key") as caught:
        TelnyxClient(SecretStr(key), base_url="http://127.0.0.1:1/v2")
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("url", ["", "api.telnyx.com", "ftp://a/b", "http:///v2", "https://k@h/v2"])
def test_a_base_url_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url: "):
        TelnyxClient(KEY, base_url=url)


# Reading and writing calls that get no answer.


def test_a_reading_call_without_an_answer_may_be_made_again() -> None:
    with (
        raw_server(drop) as server,
        TelnyxClient(KEY, base_url=server.url) as client,
        pytest.raises(RetryableError),
    ):
        client.model_ids()


def test_a_writing_call_without_an_answer_may_have_happened() -> None:
    conversation = TelnyxConversationId(uuid4())
    with (
        raw_server(drop) as server,
        TelnyxClient(KEY, base_url=server.url) as client,
        pytest.raises(OutcomeUnknownError),
    ):
        client.conversations.delete(conversation)


def test_a_writing_call_that_never_left_did_not_happen() -> None:
    conversation = TelnyxConversationId(uuid4())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v2"
    with TelnyxClient(KEY, base_url=url) as client, pytest.raises(RetryableError, match="connect"):
        client.conversations.delete(conversation)


# What an HTTP client would do by itself.


@pytest.mark.parametrize("there", ["/v2/b", "http://[", "https://x:99999999/", "//\xff"])
def test_a_redirect_is_not_followed_wherever_it_leads(there: str) -> None:
    with (
        raw_server(answers(http(status=302, headers={"LOCATION": there}))) as server,
        TelnyxClient(KEY, base_url=server.url) as client,
    ):
        outcome = client.responses.create(REQUEST, CallWindow.starting_now(10))
    assert outcome == Refused(status=302, fault=Fault.ACCOUNT)
    assert len(server.requests) == 1


def test_a_cookie_is_not_kept() -> None:
    answer = http(response_object("a"), headers={"Set-Cookie": "a=b"})
    with (
        raw_server(answers(answer)) as server,
        TelnyxClient(KEY, base_url=server.url) as client,
    ):
        assert texts(client, 2) == ["a", "a"]
    assert len(server.requests) == 2
    assert b"cookie" not in b"".join(server.requests).lower()


def test_nothing_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with raw_server(answers(done("a"))) as server, TelnyxClient(KEY, base_url=server.url) as client:
        assert texts(client, 1) == ["a"]


def test_a_body_that_says_it_is_packed_is_not_unpacked() -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    (answer,) = exchange(head + bomb)
    assert isinstance(answer, Answer)
    assert answer.body == bomb


# Any bytes at all.


def exchange(data: bytes, *more: bytes) -> list[Answer | IncompleteAnswerError]:
    """Let a connection read these bytes, a connection each, each followed by the end."""
    left = [data, *more]

    def dial(*_: object) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(left.pop(0))
            theirs.shutdown(socket.SHUT_WR)
        return ours

    request = ConnectionPerThread(KEY, base_url="http://127.0.0.1:1/v2").request("GET", "/x", None)
    connection = Connection(request.url.origin, dial)
    results: list[Answer | IncompleteAnswerError] = []
    for _ in range(1 + len(more)):
        try:
            results.append(connection.exchange(request, CallWindow.starting_now(10), read_whole))
        except IncompleteAnswerError as error:
            results.append(error)
    connection.close()
    return results


HEADERS = [
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 5, 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Connection: close",
    b"Connection: upgrade\r\nUpgrade: h2c",
    b"Foo",
    b": bar",
    b"x: \xff\x00",
    b" folded",
]
STATUSES = [b"1.1 200 OK", b"1.0 200 OK", b"1.1 101 X", b"1.1 100 X", b"1.1 204 X", b"1.1 999 \xff"]
BODIES = [b"\r\n", b"\n", b"hello", b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffffffff\r\n"]
LINES = [line + b"\r\n" for line in [*(b"HTTP/" + status for status in STATUSES), *HEADERS]]
fragments = st.sampled_from(LINES + BODIES)
streams = st.lists(fragments | st.binary(max_size=20), max_size=12).map(b"".join)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@settings(deadline=None)
@given(streams)
@example(b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n")
def test_no_bytes_break_the_connection_or_reach_the_next_call(data: bytes) -> None:
    _, after = exchange(data, OK)
    assert isinstance(after, Answer)
    assert after.body == b"ok"


def test_a_status_that_only_http_knows_is_classified() -> None:
    with (
        raw_server(answers(http(status=418))) as server,
        TelnyxClient(KEY, base_url=server.url) as client,
    ):
        outcome = client.responses.create(REQUEST, CallWindow.starting_now(10))
    assert outcome == Refused(status=418, fault=Fault.REQUEST)
