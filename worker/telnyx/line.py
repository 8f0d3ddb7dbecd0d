"""One thread's line to Telnyx: at most one kept-alive connection, one request at a time, no retry.

An httpx transport on httpcore's HTTP/1.1 connection, without httpcore's pool: the sockets are ours
(one deadline for all, and knowing whether a byte has left).
"""

import socket
import ssl
from collections.abc import Callable, Iterable
from typing import TypeAlias

import httpcore
import httpx

from worker.telnyx.request import Target
from worker.telnyx.transport import DeadlineStream, LineError, dial
from worker.telnyx.window import CallWindow

Dial: TypeAlias = Callable[[str, int, ssl.SSLContext | None, CallWindow], socket.socket]

MAX_ANSWER_BYTES = 8 * 1024 * 1024

KEEPALIVE_S = 4.0
"""Below the 5 s after which common servers (uvicorn, node) hang up: a request that crosses their
FIN is lost, and a lost POST costs its reader T_QUIET."""


class Line(httpx.BaseTransport):
    """The connection of one thread."""

    def __init__(
        self,
        target: Target,
        tls: ssl.SSLContext | None,
        *,
        keepalive_s: float = KEEPALIVE_S,
        dial: Dial = dial,
    ) -> None:
        """`tls` None means plain HTTP: a simulator."""
        self._dial = dial
        self._target = target
        self._tls = tls
        self._keepalive_s = keepalive_s
        self._stream: DeadlineStream | None = None
        self._connection: httpcore.HTTP11Connection | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send once, read the whole answer. LineError: there is none; see `window.wrote`.

        The CallWindow comes in `request.extensions["window"]`; ValueError: it does not, or it has
        served before. `Location` does not come out.
        """
        window = request.extensions.get("window")
        if not isinstance(window, CallWindow):
            raise ValueError("the request has no window: extensions['window']")  # noqa: TRY004 a value is missing
        if window.wrote:
            raise ValueError("a window serves one call")
        connection, stream = self._open(window)
        try:
            return self._on(connection, request)
        except httpcore.ProtocolError:
            reason = "ended early" if stream.ended else "not HTTP"
        # Neither chained nor quoted: h11 puts what the server sent into its texts.
        raise LineError(reason)

    def _open(self, window: CallWindow) -> tuple[httpcore.HTTP11Connection, DeadlineStream]:
        connection, stream = self._connection, self._stream
        if connection is not None and stream is not None:
            if connection.is_idle() and not connection.has_expired():
                stream.window = window
                return connection, stream
            self.close()
        target = self._target
        stream = DeadlineStream(self._dial(target.host, target.port, self._tls, window), window)
        origin = _core_url(target.url("/")).origin
        connection = httpcore.HTTP11Connection(origin, stream, self._keepalive_s)
        self._connection, self._stream = connection, stream
        return connection, stream

    def _on(self, connection: httpcore.HTTP11Connection, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)  # noqa: S101 httpx.Client saw to it
        response = connection.handle_request(
            httpcore.Request(
                request.method,
                _core_url(request.url),
                headers=request.headers.raw,
                content=request.stream,
            )
        )
        try:
            body = _read_at_most(response.iter_stream(), MAX_ANSWER_BYTES)
        finally:
            response.close()
        if connection._h11_state.trailing_data[0]:  # noqa: SLF001 httpcore would take it for the NEXT answer
            self.close()
        return httpx.Response(
            response.status,
            # httpx prepares the next request of a redirect it does not follow, and may fail at it.
            headers=[pair for pair in response.headers if pair[0].lower() != b"location"],
            stream=httpx.ByteStream(body),
        )

    def close(self) -> None:
        """Hang up. The next request dials again."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._stream = None


def _core_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )


def _read_at_most(parts: Iterable[bytes], limit: int) -> bytes:
    body = bytearray()
    for part in parts:
        body += part
        if len(body) > limit:
            raise LineError(f"answer larger than {limit} bytes")
    return bytes(body)
