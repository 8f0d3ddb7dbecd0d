"""Calls to Telnyx from many threads: one line each, one answer or one error.

    thread 1 ── Line ──┐
    thread 2 ── Line ──┼── one Wire, one TLS context
    thread n ── Line ──┘

A pool shared by all threads would be searched under a lock (design.md §6). No retries, no
redirects, no cookies, no proxy, one overall deadline for each call.
"""

import threading
from datetime import UTC, datetime
from ssl import SSLContext

from pydantic import SecretStr

from worker.telnyx import faults
from worker.telnyx.answer import Answer
from worker.telnyx.line import KEEPALIVE_S, Line
from worker.telnyx.request import Requests, Target
from worker.telnyx.transport import LineError, tls_context
from worker.telnyx.window import CallWindow

CALL_TIMEOUT_S = 10.0


class Wire:
    """Safe to share between threads."""

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr,
        *,
        tls: SSLContext | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        keepalive_s: float = KEEPALIVE_S,
    ) -> None:
        self.target = Target.of(base_url)
        self._requests = Requests(self.target, api_key)
        self._tls = (tls or tls_context()) if self.target.scheme == "https" else None
        self._timeout_s = timeout_s
        self._keepalive_s = keepalive_s
        self._local = threading.local()
        self._lock = threading.Lock()
        self._lines: list[tuple[threading.Thread, Line]] = []
        self._closed = False

    def post_once(self, path: str, body: bytes, window: CallWindow) -> Answer:
        """POST under the caller's window. Raises LineError where there is no complete answer."""
        return self._line().exchange(self._requests.build("POST", path, body), window)

    def call(
        self,
        what: str,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Call once under a deadline of its own, return the 2xx answer. Raises WorkerError else.

        `what` names the call in the error's text, so it holds no more than a verb and a noun.
        """
        window = CallWindow.starting_now(self._timeout_s)
        request = self._requests.build(method, path, body, idempotency_key=idempotency_key)
        writes = method != "GET"
        try:
            answer = self._line().exchange(request, window)
        except LineError as error:
            unsure = writes and window.wrote
            raise faults.of_silence(what, str(error), may_have_happened=unsure) from error
        if 200 <= answer.status < 300:  # noqa: PLR2004 every 2xx
            return answer
        raise faults.of_answer(what, answer, writes=writes, now=datetime.now(UTC))

    def _line(self) -> Line:
        if self._closed:
            raise RuntimeError("the client is closed")
        line: Line | None = getattr(self._local, "line", None)
        if line is None:
            line = self._local.line = Line(self.target, self._tls, keepalive_s=self._keepalive_s)
            with self._lock:
                self._hang_up_for_the_dead()
                self._lines.append((threading.current_thread(), line))
        return line

    def _hang_up_for_the_dead(self) -> None:
        for thread, line in self._lines:
            if not thread.is_alive():
                line.close()
        self._lines = [(thread, line) for thread, line in self._lines if thread.is_alive()]

    def close(self) -> None:
        """Hang up all lines, for good. A call that still runs ends as if the connection broke."""
        with self._lock:
            self._closed = True
            for _, line in self._lines:
                line.close()
            self._lines.clear()
