"""Streamed answers, byte by byte, and what a call makes of them."""

import json
import socket
import time
from collections.abc import Callable

from pydantic import SecretStr

from tests.support.raw_server import (
    RawServer,
    Serve,
    raw_server,
    response_object,
)
from worker.domain.turns.calls import CallOutcome, Unknown
from worker.net.window import CallWindow
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


CUT = CHUNKED + chunk(CREATED + DELTAS)
