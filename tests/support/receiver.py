"""A web server that takes webhooks: what came, and what it answers, are the test's."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE_S = 10.0


@dataclass(frozen=True)
class Posted:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.raw)
        return parsed

    @property
    def event_type(self) -> str:
        return str(self.body["data"]["event_type"])


@dataclass
class Receiver:
    """What came so far. `answers` maps a path to the statuses to give, the last one for ever."""

    url: str = ""
    answers: dict[str, list[int]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    """Paths that get no answer until the end of the test."""
    posted: list[Posted] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int) -> list[Posted]:
        """Return what came once that much did."""
        with self._news:
            came = self._news.wait_for(lambda: len(self.posted) >= count, PATIENCE_S)
            assert came, f"{len(self.posted)} of {count} came"
            return list(self.posted)

    def take(self, request: Posted) -> int | None:
        """Note a request; return the status to answer, None = none."""
        with self._news:
            self.posted.append(request)
            self._news.notify_all()
            if request.path in self.silent:
                return None
            statuses = self.answers.get(request.path, [200])
            return statuses.pop(0) if len(statuses) > 1 else statuses[0]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Serve on the loopback address for the length of a `with`."""
    state = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = state.take(Posted(path=self.path, headers=headers, raw=raw))
            if status is None:
                state.ended.wait(PATIENCE_S)
                return
            self.send_response(status)
            if status // 100 == 3:
                self.send_header("location", f"{state.url}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # with the usual 5 a burst of connections waits for seconds

    with Server(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            state.ended.set()
            server.shutdown()
            thread.join()
