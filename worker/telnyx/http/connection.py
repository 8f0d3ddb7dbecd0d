"""One thread's line to Telnyx: at most one kept-alive connection, one request at a time, no retry.

An httpx transport on httpcore's HTTP/1.1 connection, without httpcore's pool: the sockets are ours
(one deadline for all, and knowing whether a byte has left).
"""

import socket
import ssl
from collections.abc import Callable, Iterator
from typing import TypeAlias

import httpcore
import httpx

from worker.net.window import CallWindow
from worker.telnyx.http.request import Target
from worker.telnyx.transport import ENDED_EARLY, DeadlineStream, LineError, dial

Dial: TypeAlias = Callable[[str, int, ssl.SSLContext | None, CallWindow], socket.socket]

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
        """Send once, read the head; the body is read out of the response's stream.

        LineError, here or there: no complete answer came; see `window.wrote`. The CallWindow comes
        in `request.extensions["window"]`; ValueError: it does not, or it has served before.
        `Location` does not come out.
        """
        window = request.extensions.get("window")
        if not isinstance(window, CallWindow):
            raise ValueError("the request has no window: extensions['window']")  # noqa: TRY004 a value is missing
        if window.wrote:
            raise ValueError("a window serves one call")
        connection, stream = self._open(window)
        try:
            response = connection.handle_request(_core_request(request))
        except httpcore.ProtocolError:
            reason = _why_broken(stream)
        else:
            return httpx.Response(
                response.status,
                # httpx prepares the next request of a redirect it does not follow: it may fail.
                headers=[pair for pair in response.headers if pair[0].lower() != b"location"],
                stream=_Body(self, connection, stream, response),
            )
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

    def close(self) -> None:
        """Hang up. The next request dials again."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._stream = None


class _Body(httpx.SyncByteStream):
    """What comes behind the head of one answer, as it comes."""

    def __init__(
        self,
        line: Line,
        connection: httpcore.HTTP11Connection,
        stream: DeadlineStream,
        response: httpcore.Response,
    ) -> None:
        self._line = line
        self._connection = connection
        self._stream = stream
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._response.iter_stream()
        except httpcore.ProtocolError:
            reason = _why_broken(self._stream)
        else:
            return
        raise LineError(reason)  # unchained, as above

    def close(self) -> None:
        """Leave the connection to the next call, or hang up where the answer was not read whole."""
        self._response.close()
        if self._connection._h11_state.trailing_data[0]:  # noqa: SLF001 httpcore would take it for the NEXT answer
            self._line.close()


def _why_broken(stream: DeadlineStream) -> str:
    return ENDED_EARLY if stream.ended else "not HTTP"


def _core_request(request: httpx.Request) -> httpcore.Request:
    assert isinstance(request.stream, httpx.SyncByteStream)  # noqa: S101 httpx.Client saw to it
    return httpcore.Request(
        request.method,
        _core_url(request.url),
        headers=request.headers.raw,
        content=request.stream,
    )


def _core_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )
