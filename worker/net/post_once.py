"""One POST on a connection of its own, under one deadline from the lookup to the last byte.

A fresh connection each time: these endpoints are called far less often than the model, and a kept
connection that the server closes at that instant would turn nothing into an unknown outcome. So
there is no pool, no connection for each thread, and nothing to close.
"""

import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from enum import Enum, auto

import httpx

from worker.net.answer import Answer, IncompleteAnswerError
from worker.net.connection import Connection, address_of, core_url, request_to
from worker.net.dial import Lookup, bounded, dial, look_up
from worker.net.proxy import Proxy
from worker.net.window import CallWindow


def parse_url(text: str) -> httpx.URL:
    """Read http(s)://host[:port]/path. Raises ValueError, which names the fix."""
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError):
        url = httpx.URL()
    # Not quoted: the faulty part may be a password.
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("url: give http(s)://host[:port]/path")
    if url.userinfo:
        raise ValueError(
            "url: no user or password in it: requests are signed, the receiver verifies that"
        )
    return url


@dataclass(frozen=True)
class Endpoint:
    """One URL. Safe to share.

    `allowed` is asked about each address that the host's name has, as text. Without `whole_answer`
    the status is the answer: a body that breaks off or does not end changes nothing.
    """

    url: httpx.URL
    tls: ssl.SSLContext | None
    _: KW_ONLY
    max_body_bytes: int
    whole_answer: bool = True
    allowed: Callable[[str], bool] | None = None
    lookup: Lookup = look_up
    proxy: Proxy | None = None

    def __post_init__(self) -> None:
        if self.tls is None and self.url.scheme == "https":
            raise ValueError("https needs a TLS context")

    def post(self, body: bytes, headers: Mapping[str, str], window: CallWindow) -> Answer:
        """POST once. The answer's body has at most one byte more than `max_body_bytes`.

        Raises IncompleteAnswerError; the other side saw nothing unless `window.wrote`.
        """
        url = core_url(self.url)
        more = ((name.encode(), value.encode()) for name, value in headers.items())
        request = request_to("POST", url, self.url.netloc, body, (b"Connection", b"close"), *more)
        connection = Connection(url.origin, self._dial)
        try:
            return connection.exchange(request, window, self._read)
        finally:
            connection.close()

    def _dial(self, window: CallWindow) -> socket.socket:
        # The names here are other people's, and so are the servers that answer for them.
        lookup = bounded(self.lookup, window)
        tls = self.tls if self.url.scheme == "https" else None
        return dial(
            address_of(self.url),
            tls,
            window,
            allowed=self.allowed,
            lookup=lookup,
            proxy=self.proxy,
        )

    def _read(self, head: Answer, parts: Iterator[bytes]) -> Answer:
        body = bytearray()
        try:
            for part in parts:
                body += part
                # One byte more is kept: it shows the caller that there was more.
                if len(body) > self.max_body_bytes:
                    break
        except IncompleteAnswerError:
            if self.whole_answer:
                raise
        return replace(head, body=bytes(body[: self.max_body_bytes + 1]))


class EndpointStatus(Enum):
    """The effect of a request on an endpoint that we POST to, a tool or a webhook.

    2xx                            TAKEN      it was done
    408 425 429                    LATER      nothing was done; it may be sent again
    409                            BUSY       nothing was done, or this key is at work over there
    410                            GONE       nothing was done, and never will be
    301 307 308, any other 4xx     REFUSED    nothing was done
    5xx, any other 3xx             OPEN       it may have been done
    """

    # 302 and 303 are OPEN because they may answer a POST that was carried out; a 301, 307 or 308
    # asks for the same POST elsewhere, so it was not carried out here. No redirect is followed: the
    # address that it names was never checked.

    TAKEN = auto()
    LATER = auto()
    BUSY = auto()
    GONE = auto()
    REFUSED = auto()
    OPEN = auto()


def endpoint_status(status: int) -> EndpointStatus:
    """Return the effect that an HTTP status reports."""
    match status // 100, status:
        case 2, _:
            return EndpointStatus.TAKEN
        case _, 408 | 425 | 429:
            return EndpointStatus.LATER
        case _, 409:
            return EndpointStatus.BUSY
        case _, 410:
            return EndpointStatus.GONE
        case (4, _) | (_, 301 | 307 | 308):
            return EndpointStatus.REFUSED
        case _:
            return EndpointStatus.OPEN
