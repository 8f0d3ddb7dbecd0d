"""Calls to Telnyx from many threads: one httpx client each, one answer or one error.

    thread 1 ── httpx.Client ── Line ──┐
    thread 2 ── httpx.Client ── Line ──┼── one Wire, one TLS context
    thread n ── httpx.Client ── Line ──┘

A client shared by all threads would search its pool under a lock: measured 18 times dearer. No
retries, no redirects, no cookies, no proxy, one overall deadline for each call.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from ssl import SSLContext
from typing import TypeVar

import httpx
from pydantic import SecretStr

from worker.net.window import CallWindow
from worker.observability import traces
from worker.telnyx.answers import errors as faults
from worker.telnyx.answers.answer import Answer
from worker.telnyx.http.connection import KEEPALIVE_S, Line
from worker.telnyx.http.request import JSON, Requests, Target
from worker.telnyx.incoming import Incoming, read_whole
from worker.telnyx.transport import LineError, tls_context

CALL_TIMEOUT_S = 10.0

_Read = TypeVar("_Read")


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
        self._clients: list[tuple[threading.Thread, httpx.Client]] = []
        self._closed = False
        for name in ("httpx", "httpcore"):
            # They log URLs (a filter may hold an address) and what the server sent.
            logging.getLogger(name).setLevel(logging.WARNING)

    def post_once(
        self,
        path: str,
        body: bytes,
        window: CallWindow,
        read: Callable[[Incoming], _Read],
        *,
        accept: bytes = JSON,
    ) -> _Read:
        """POST under the caller's window; give what `read` makes of the answer.

        Raises LineError where none began; `read` where it does not go on.
        """
        request = self._requests.build("POST", path, body, window, accept=accept)
        return receive(self._client(), request, read)

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
        request = self._requests.build(method, path, body, window, idempotency_key=idempotency_key)
        writes = method != "GET"
        with traces.span(
            f"telnyx {what}", lambda: {"http.request.method": method}, kind=traces.Kind.CLIENT
        ):
            try:
                answer = exchange(self._client(), request)
            except LineError as error:
                unsure = writes and window.wrote
                raise faults.of_silence(what, str(error), may_have_happened=unsure) from error
            traces.note(lambda: {"http.response.status_code": answer.status})
            if 200 <= answer.status < 300:  # noqa: PLR2004 every 2xx
                return answer
            raise faults.of_answer(what, answer, writes=writes, now=datetime.now(UTC))

    def _client(self) -> httpx.Client:
        if self._closed:
            raise RuntimeError("the client is closed")
        client: httpx.Client | None = getattr(self._local, "client", None)
        if client is None:
            line = Line(self.target, self._tls, keepalive_s=self._keepalive_s)
            client = self._local.client = client_on(line)
            with self._lock:
                self._hang_up_for_the_dead()
                self._clients.append((threading.current_thread(), client))
        return client

    def _hang_up_for_the_dead(self) -> None:
        for thread, client in self._clients:
            if not thread.is_alive():
                client.close()
        self._clients = [pair for pair in self._clients if pair[0].is_alive()]

    def close(self) -> None:
        """Hang up all lines, for good. A call that still runs ends as if the connection broke."""
        with self._lock:
            self._closed = True
            for _, client in self._clients:
                client.close()
            self._clients.clear()


def client_on(transport: httpx.BaseTransport) -> httpx.Client:
    """Return a client that adds nothing to a request, follows nothing and remembers nothing."""
    return _Client(
        transport=transport,
        follow_redirects=False,
        timeout=None,  # the transport keeps one deadline for the whole call
        trust_env=False,
    )


def exchange(client: httpx.Client, request: httpx.Request) -> Answer:
    """Send a request of `Requests`. Raises LineError where there is no complete answer."""
    return receive(client, request, read_whole)


def receive(
    client: httpx.Client, request: httpx.Request, read: Callable[[Incoming], _Read]
) -> _Read:
    """Send a request of `Requests`, let `read` have the answer while it comes."""
    response = client.send(request, stream=True)
    try:
        head = Answer(
            status=response.status_code,
            headers={
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in response.headers.raw
            },
            body=b"",
        )
        # As it came: nothing is unpacked unasked.
        return read(Incoming(head=head, parts=response.iter_raw()))
    finally:
        response.close()


class _Client(httpx.Client):
    """Without cookies, and without looking for any: that costs as much as the rest of httpx."""

    @property
    def cookies(self) -> httpx.Cookies:
        return _NO_COOKIES

    @cookies.setter
    def cookies(self, _: object) -> None:
        raise TypeError("this client keeps no cookies")


class _NoCookies(httpx.Cookies):
    def extract_cookies(self, response: httpx.Response) -> None:
        pass


_NO_COOKIES = _NoCookies()
