"""A minimal stand-in for Telnyx on asyncio, fast enough never to be the bottleneck.

    python -m bench.upstream --port-file FILE      prints nothing, ends with SIGTERM

It keeps each conversation's log, since the worker reads it back after a failure. Beside Telnyx's
paths it has `POST /control` (latency, holding answers back, faults) and `GET /stats`.
"""

import argparse
import asyncio
import json
import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_TAG = re.compile(r"worker_user=eq\.([0-9a-f-]+)")
_PAGE = re.compile(r"page%5Bnumber%5D=(\d+)")
_NUMBER = re.compile(r"#(\d+)")
_STATUS = {200: b"200 OK", 404: b"404 Not Found", 503: b"503 Service Unavailable"}
_FAULT = {"errors": [{"code": "10000", "title": "Unavailable", "detail": "try again"}]}
_PAGE_SIZE = 100

Send = Callable[[int, object], None]


@dataclass
class Upstream:
    """The state: threads by conversation, and the settings of the next answers."""

    latency_s: float = 0.0
    hold: bool = False
    fail_share: float = 0.0
    served: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    took_s: dict[int, float] = field(default_factory=dict)
    """Seconds from the complete request to the answer, by the number in the message's text."""
    _by_tag: dict[str, str] = field(default_factory=dict)
    _logs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    _held: list[Callable[[], None]] = field(default_factory=list)
    _dice: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 - a play

    def handle(self, method: str, path: str, body: bytes, send: Send) -> None:
        """Answer one request, now or later."""
        document = json.loads(body) if body else {}
        if path.endswith("/responses"):
            self._respond(document, send)
        elif path == "/control":
            send(200, self._control(document))
        elif path == "/stats":
            send(200, self._stats())
        elif path.endswith("/message"):
            self._log_of(path.split("/")[-2]).append((document["role"], document["content"]))
            send(200, {"data": {}})
        elif method == "POST" and path.endswith("/messages"):
            send(200, {"data": {"id": str(uuid4()), "parts": 1}})
        elif "/messages" in path:
            send(200, self._messages(path))
        elif method == "POST":
            send(200, {"data": self._create(document)})
        else:
            send(200, self._find(path))

    def _respond(self, document: dict[str, Any], send: Send) -> None:
        began = time.perf_counter()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        text = _text_of(document["input"])

        def answer() -> None:
            self.in_flight -= 1
            if self.fail_share and self._dice.random() < self.fail_share:
                send(503, _FAULT)
                return
            conversation = document.get("conversation")
            if conversation is not None:
                log = self._log_of(str(conversation))
                log += (("user", text), ("assistant", f"You said: {text}"))
            self.served += 1
            send(200, _response(text))
            for number in _NUMBER.findall(text):
                self.took_s[int(number)] = time.perf_counter() - began

        if self.hold:
            self._held.append(answer)
        elif self.latency_s:
            asyncio.get_running_loop().call_later(self.latency_s, answer)
        else:
            answer()

    def _control(self, wanted: dict[str, Any]) -> object:
        self.latency_s = wanted.get("latency_s", self.latency_s)
        self.fail_share = wanted.get("fail_share", self.fail_share)
        self.hold = wanted.get("hold", self.hold)
        self.most_in_flight = self.in_flight
        if wanted.get("forget"):
            self.took_s.clear()
        if not self.hold:
            held, self._held = self._held, []
            for answer in held:
                asyncio.get_running_loop().call_soon(answer)
        return {}

    def _stats(self) -> object:
        return {
            "served": self.served,
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "took_s": self.took_s,
        }

    def _log_of(self, conversation: str) -> list[tuple[str, str]]:
        return self._logs.setdefault(conversation, [])

    def _create(self, document: dict[str, Any]) -> object:
        found = str(uuid4())
        metadata = document.get("metadata", {})
        self._by_tag[metadata.get("worker_user", found)] = found
        return {"id": found, "metadata": metadata, "created_at": "2026-01-01T00:00:00Z"}

    def _find(self, path: str) -> object:
        tag = _TAG.search(path)
        found = self._by_tag.get(tag[1]) if tag else None
        rows = [{"id": found, "metadata": {"worker_user": tag[1]}}] if tag and found else []
        return {"data": rows}

    def _messages(self, path: str) -> object:
        log = self._log_of(path.partition("/messages")[0].rpartition("/")[2])
        page = _PAGE.search(path)
        first = (int(page[1]) - 1) * _PAGE_SIZE if page else 0
        rows = [{"role": role, "text": text} for role, text in log[first : first + _PAGE_SIZE]]
        return {"data": rows, "meta": {"total_results": len(log)}}


def _text_of(value: object) -> str:
    """Return the text of `input`: the SDK's bare string, or one user item."""
    if isinstance(value, str):
        return value
    items = value if isinstance(value, list) else []
    content = items[0].get("content", "") if items else ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


def _response(text: str) -> object:
    part = {"type": "output_text", "text": f"You said: {text}", "annotations": []}
    message = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "bench",
        "status": "completed",
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 20,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 20,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 40,
        },
    }


class Connection(asyncio.Protocol):
    """One kept-alive connection with sequential requests."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of create_server
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Handle each complete request."""
        self._received += data
        while True:
            head, blank, rest = self._received.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            size = int(length[1]) if length else 0
            if not blank or len(rest) < size:
                return
            self._received = rest[size:]
            method, path, _ = head.split(b" ", 2)
            self._upstream.handle(method.decode(), path.decode(), rest[:size], self._send)

    def _send(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(
                b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (_STATUS[status], len(body), body)
            )


async def serve(port_file: Path) -> None:
    upstream = Upstream()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(upstream), "127.0.0.1", 0, backlog=2048, reuse_address=True
    )
    half_written = port_file.with_suffix(".new")
    half_written.write_text(str(server.sockets[0].getsockname()[1]))
    half_written.rename(port_file)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port-file", type=Path, required=True)
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args().port_file))
