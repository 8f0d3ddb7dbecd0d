"""One HTTP/1.1 connection: at most one socket, one request at a time, no retry, no redirect.

Driven by httpcore's HTTP11Connection, without httpcore's pool and without httpx's client: the
socket is ours (one deadline for all of a call, and the fact whether a byte was sent), and none of a
client's additions (cookies, redirects, proxies, unpacking, retries) may happen. See decision 29.
"""

import logging
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import httpcore
import httpx

from worker.net.answer import Answer, IncompleteAnswerError, Read
from worker.net.window import CallWindow

JSON: Final = b"application/json"
ENDED_EARLY: Final = "ended early"
NOT_HTTP: Final = "not HTTP"

_Result = TypeVar("_Result")


class DeadlineSocket(httpcore.NetworkStream):
    """A connected socket under the window of the call that uses it now.

    The timeouts of httpx and httpcore hold for each read alone, so an answer that trickles never
    ends. Here each send and each read gets what is left of ONE window.

    httpcore writes head, body and an empty end one after the other. They are held back until that
    end and leave together, so that the send deadline decides over the request as a whole.
    """

    def __init__(self, sock: socket.socket, window: CallWindow) -> None:
        self._sock = sock
        self._held = bytearray()
        self.window = window
        self.ended = False
        """The other side has closed."""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 httpcore's per-write timeout
        """Hold a part of the request back; an empty one ends the request and sends all of it."""
        if buffer:
            self._held += buffer
        elif self._held:
            self._send()

    def _send(self) -> None:
        view = memoryview(self._held)
        self._held = bytearray()
        # Looked at again after lookup, connect and handshake: the process may have slept since.
        self.window.left_to_send_s()
        while view:
            self._sock.settimeout(self.window.left_s())
            # Before the call, not after it: a send that fails may have sent something.
            self.window.wrote = True
            try:
                view = view[self._sock.send(view) :]
            except TimeoutError as error:
                raise self.window.over() from error
            except OSError as error:
                # httpcore passes over a WriteError and reads: a server may refuse half-way.
                raise httpcore.WriteError(type(error).__name__) from error

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 httpcore's per-read timeout
        """Wait no longer than the window, return what has come; empty = the other side closed."""
        self._sock.settimeout(self.window.left_s())
        try:
            data = self._sock.recv(max_bytes)
        except TimeoutError as error:
            raise self.window.over() from error
        except OSError as error:
            raise IncompleteAnswerError(f"read: {type(error).__name__}") from error
        self.ended = not data
        return data

    def close(self) -> None:
        """Close the socket."""
        self._held = bytearray()
        self._sock.close()

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 httpcore's signature
        """Answer httpcore's one question: has the other side written, or closed, unasked."""
        if info != "is_readable":
            return None
        poll = select.poll()  # select() ends at descriptor 1023
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))


def core_url(url: httpx.URL) -> httpcore.URL:
    """Return the URL in httpcore's form."""
    return httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )


def request_to(
    method: str, url: httpcore.URL, host: bytes, body: bytes | None, *more: tuple[bytes, bytes]
) -> httpcore.Request:
    """Return a request; `body` is JSON, None for none. `more` are further headers."""
    about_body = [] if body is None else [(b"Content-Type", JSON)]
    return httpcore.Request(
        method,
        url,
        headers=[
            (b"Host", host),
            *more,
            (b"Accept-Encoding", b"identity"),  # nothing to unpack, so no bomb
            (b"User-Agent", b"message-worker"),
            (b"Content-Length", b"%d" % len(body or b"")),
            *about_body,
        ],
        content=body or b"",
    )


def address_of(url: httpx.URL) -> tuple[str, int]:
    """Return host and port to connect to; the port of the scheme unless the URL names one."""
    return url.raw_host.decode("ascii"), core_url(url).origin.port


class Connection:
    """For one thread. Opened by the first request, and again by any that finds it unusable."""

    def __init__(
        self,
        origin: httpcore.Origin,
        dial: Callable[[CallWindow], socket.socket],
        *,
        keepalive_s: float | None = None,
    ) -> None:
        """`keepalive_s`: a connection idle for longer is not used again; None = any may be."""
        self._origin = origin
        self._dial = dial
        self._keepalive_s = keepalive_s
        self._sock: DeadlineSocket | None = None
        self._http: httpcore.HTTP11Connection | None = None
        # Below warnings it logs what it sends: URLs, headers, keys, signatures.
        logging.getLogger("httpcore").setLevel(logging.WARNING)

    def exchange(
        self, request: httpcore.Request, window: CallWindow, read: Read[_Result]
    ) -> _Result:
        """Send once; return what `read` makes of the answer while it comes.

        Raises IncompleteAnswerError if no answer began (see `window.wrote`), ValueError if the
        window has served another call, and what `read` raises.
        """
        if window.wrote:
            raise ValueError("a window serves one call")
        http, sock = self._open(window)
        try:
            response = http.handle_request(request)
        except httpcore.ProtocolError:
            reason = _why_broken(sock)
        else:
            try:
                return read(_head(response), _parts(response, sock))
            finally:
                # Closes the connection unless the answer was read to its end.
                response.close()
                if http._h11_state.trailing_data[0]:  # noqa: SLF001 httpcore would take it for the NEXT answer
                    self.close()
        # Neither chained nor quoted: h11 puts what the server sent into its texts.
        raise IncompleteAnswerError(reason)

    def _open(self, window: CallWindow) -> tuple[httpcore.HTTP11Connection, DeadlineSocket]:
        http, sock = self._http, self._sock
        if http is not None and sock is not None:
            # `has_expired` also looks whether the server closed, or wrote unasked, while idle.
            if http.is_idle() and not http.has_expired():
                sock.window = window
                return http, sock
            self.close()
        sock = DeadlineSocket(self._dial(window), window)
        http = httpcore.HTTP11Connection(self._origin, sock, self._keepalive_s)
        self._http, self._sock = http, sock
        return http, sock

    def close(self) -> None:
        """Close the socket. The next request dials again."""
        if self._http is not None:
            self._http.close()
        self._http = self._sock = None


def _head(response: httpcore.Response) -> Answer:
    return Answer(
        status=response.status,
        headers={
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in response.headers
        },
    )


def _parts(response: httpcore.Response, sock: DeadlineSocket) -> Iterator[bytes]:
    """Yield the body as it came: nothing is unpacked, so there is no bomb to unpack."""
    try:
        yield from response.iter_stream()
    except httpcore.ProtocolError:
        reason = _why_broken(sock)
    else:
        return
    raise IncompleteAnswerError(reason)  # unchained, as above


def _why_broken(sock: DeadlineSocket) -> str:
    return ENDED_EARLY if sock.ended else NOT_HTTP
