"""Calls to Telnyx from many threads: one connection each, one answer or one error.

    thread 1 ── Connection ──┐
    thread 2 ── Connection ──┼── one ConnectionPerThread, one TLS context
    thread n ── Connection ──┘

A pool shared by all threads would be searched under a lock: measured 18 times dearer. No retries,
no redirects, no cookies, no proxy, one overall deadline for each call.
"""

import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Final, Self, TypeVar

import httpcore
import httpx
from pydantic import SecretStr

from worker.domain.errors import OutcomeUnknownError, RetryableError
from worker.net.answer import Answer, IncompleteAnswerError, Read
from worker.net.connection import JSON, Connection, address_of, core_url, request_to
from worker.net.dial import dial, tls_context
from worker.net.post_once import parse_url
from worker.net.proxy import proxy_for
from worker.net.window import CallWindow
from worker.observability import traces
from worker.telnyx.answers.answer import read_whole
from worker.telnyx.answers.classify import error_of_answer

EVENT_STREAM: Final = b"text/event-stream"
CALL_TIMEOUT_S = 10.0

KEEPALIVE_S = 4.0
"""Below the 5 s after which common servers (uvicorn, node) hang up: a request that crosses their
FIN is lost, and a lost POST costs its reader T_QUIET."""

_Result = TypeVar("_Result")


# All turns go to one path, and httpx takes long to read it.
@lru_cache(maxsize=16)
def url_below(base: httpx.URL, path: str) -> httpcore.URL:
    """Return the URL of a path (with its query, already encoded) below the base.

    Raises ValueError for a path that httpx would not send (its limit is 64 KiB).
    """
    prefix = base.raw_path.partition(b"?")[0].rstrip(b"/")
    try:
        return core_url(base.copy_with(raw_path=prefix + path.encode("ascii")))
    except httpx.InvalidURL:
        reason = f"{len(path)} characters that are no path below this base URL"
    raise ValueError(reason)  # unchained: httpx quotes its input


class ConnectionPerThread:
    """Safe to share between threads."""

    def __init__(
        self,
        api_key: SecretStr,
        *,
        base_url: str,
        environ: Mapping[str, str] | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        keepalive_s: float = KEEPALIVE_S,
    ) -> None:
        """Connect to nothing yet. Raises ValueError.

        `environ` may have SSL_CERT_FILE and HTTPS_PROXY. `timeout_s`: the deadline of `call`.
        """
        base = parse_url(base_url)
        self._address = address_of(base)
        self._origin = core_url(base).origin
        if not api_key or not all("!" <= one <= "~" for one in api_key.get_secret_value()):
            raise ValueError("the API key is empty or has characters that a header cannot carry")
        self._base = base
        self._api_key = api_key
        self._proxy = proxy_for(base, environ or {})
        # Plain HTTP is a simulator.
        self._tls = tls_context(environ or {}) if base.scheme == "https" else None
        self._timeout_s = timeout_s
        self._keepalive_s = keepalive_s
        self._local = threading.local()
        # For the list alone: a thread's own connection needs no lock.
        self._lock = threading.Lock()
        self._connections: list[tuple[threading.Thread, Connection]] = []
        self._closed = False

    def post_once(
        self,
        path: str,
        body: bytes,
        window: CallWindow,
        read: Read[_Result],
        *,
        accept: bytes = JSON,
        idempotency_key: str | None = None,
    ) -> _Result:
        """POST under the caller's window; return what `read` makes of the answer.

        Raises IncompleteAnswerError if no answer began, and what `read` raises.
        """
        request = self.request("POST", path, body, accept=accept, idempotency_key=idempotency_key)
        return self._connection().exchange(request, window, read)

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
        request = self.request(method, path, body, idempotency_key=idempotency_key)
        writes = method != "GET"
        with traces.span(
            f"telnyx {what}", lambda: {"http.request.method": method}, kind=traces.Kind.CLIENT
        ):
            try:
                answer = self._connection().exchange(request, window, read_whole)
            except IncompleteAnswerError as error:
                unsure = writes and window.wrote
                kind = OutcomeUnknownError if unsure else RetryableError
                raise kind(f"{what}: {error}") from error
            traces.note(lambda: {"http.response.status_code": answer.status})
            if 200 <= answer.status < 300:  # noqa: PLR2004 every 2xx
                return answer
            raise error_of_answer(what, answer, writes=writes, now=datetime.now(UTC))

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        idempotency_key: str | None = None,
        accept: bytes = JSON,
    ) -> httpcore.Request:
        """Return the request; `body` is JSON, None for none."""
        once = [] if idempotency_key is None else [(b"Idempotency-Key", idempotency_key.encode())]
        url = url_below(self._base, path)
        return request_to(
            method,
            url,
            self._base.netloc,
            body,
            # Not in a variable: a traceback that shows locals would show the key.
            (b"Authorization", b"Bearer " + self._api_key.get_secret_value().encode("ascii")),
            (b"Accept", accept),
            *once,
        )

    def _connection(self) -> Connection:
        if self._closed:
            raise RuntimeError("the client is closed")
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = Connection(
                self._origin,
                partial(dial, self._address, self._tls, proxy=self._proxy),
                keepalive_s=self._keepalive_s,
            )
            with self._lock:
                # A thread's end is not announced: without this, each would leave a socket behind.
                # Each is asked once: one that ends meanwhile is closed the next time.
                kept = [(threading.current_thread(), connection)]
                for thread, idle in self._connections:
                    if thread.is_alive():
                        kept.append((thread, idle))
                    else:
                        idle.close()
                self._connections = kept
        return connection

    def __repr__(self) -> str:
        host, port = self._address
        return f"<{type(self).__name__} {host}:{port}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all, for good. A call that still runs ends as if the connection broke."""
        with self._lock:
            self._closed = True
            for _, connection in self._connections:
                connection.close()
            self._connections.clear()


def encode(document: Mapping[str, object]) -> bytes:
    """Return compact JSON; half of a surrogate pair becomes `?`. Raises TypeError, ValueError."""
    # `default`: json knows dict alone, and values of the domain are read-only mappings.
    text = json.dumps(
        document, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=dict
    )
    return text.encode("utf-8", "replace")
