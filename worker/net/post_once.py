"""One POST on a connection of its own, under one deadline from the lookup to the last byte.

A fresh connection each time: these endpoints are called far less often than the model, and a kept
one that the server closes just then would make an unknown outcome out of nothing. So there is no
pool, no client for each thread, and nothing to close. Driven by httpcore's HTTP/1.1 connection,
because the timeouts of httpx hold for each read alone: an answer that trickles would never end.
"""

import logging
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpcore
import httpx

from worker.net.deadline_socket import Lookup, SilenceError, Stream, dial, look_up


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    """At most one byte more than the endpoint's `max_body_bytes`: then there was more."""
    retry_after: str | None = None
    """That header, as it came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """There is no whole answer."""

    reason: str
    """Short, never a byte of what went or came."""
    wrote: bool
    """The other side may have seen something of the request."""


def seconds_of(retry_after: str | None, *, now: datetime | None = None) -> float:
    """Read that header; 0 where it says nothing, and for dates without `now`. May be infinite."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    if now is None:
        return 0.0
    try:
        return max((parsedate_to_datetime(text).astimezone(UTC) - now).total_seconds(), 0.0)
    except (ValueError, OverflowError):
        return 0.0


def parse_url(text: str) -> httpx.URL:
    """Read http(s)://host[:port]/path. Raises ValueError, which says the mend."""
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError):
        url = httpx.URL()
    # Not quoted: what is wrong may be a password in it.
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("give http(s)://host[:port]/path")
    if url.userinfo:
        raise ValueError(
            "no user or password in it: requests are signed, the receiver verifies that"
        )
    return url


def tls_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Trust the authorities that httpx brings, or those of SSL_CERT_FILE. Slow: one for all.

    Raises ValueError where that file cannot be read.
    """
    cafile = environ.get("SSL_CERT_FILE")
    try:
        if cafile:
            context = ssl.create_default_context(cafile=cafile)
        else:
            context = httpx.create_ssl_context(trust_env=False)
    except OSError as error:
        raise ValueError(f"SSL_CERT_FILE cannot be read ({type(error).__name__})") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


class Endpoint:
    """One URL. Safe to share.

    `allowed` is asked about each address that the host's name has, as text. Without `whole_answer`
    the status is the answer: a body that breaks off or does not end changes nothing.
    """

    def __init__(
        self,
        url: httpx.URL,
        tls: ssl.SSLContext | None,
        *,
        max_body_bytes: int,
        whole_answer: bool = True,
        allowed: Callable[[str], bool] | None = None,
        lookup: Lookup = look_up,
    ) -> None:
        if tls is None and url.scheme == "https":
            raise ValueError("https needs a TLS context")
        self._url = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        self._address = (url.raw_host.decode("ascii"), self._url.origin.port)
        self._tls = tls if url.scheme == "https" else None
        self._host_header = url.netloc
        self._max_body_bytes = max_body_bytes
        self._whole_answer = whole_answer
        self._allowed = allowed
        self._lookup = lookup
        # At DEBUG it logs headers: keys, signatures, addresses.
        logging.getLogger("httpcore").setLevel(logging.WARNING)

    def post(
        self, body: bytes, headers: Mapping[str, str], *, connect_by: float, finish_by: float
    ) -> Answer | Silence:
        """POST once, follow nothing. Both deadlines are of `boottime`."""
        try:
            sock = dial(
                self._address,
                self._tls,
                connect_by=min(connect_by, finish_by),
                allowed=self._allowed,
                lookup=self._lookup,
            )
        except SilenceError as error:
            return Silence(reason=str(error), wrote=False)
        stream = Stream(sock, finish_by)
        try:
            return self._exchange(stream, body, headers)
        except SilenceError as error:
            reason = str(error)
        except httpcore.ProtocolError:  # h11 puts what the server sent into its texts
            reason = "ended early" if stream.ended else "not HTTP"
        finally:
            stream.close()
        return Silence(reason=reason, wrote=stream.wrote)

    def _exchange(self, stream: Stream, body: bytes, headers: Mapping[str, str]) -> Answer:
        request = httpcore.Request(
            "POST",
            self._url,
            headers=[
                (b"Host", self._host_header),
                (b"Content-Type", b"application/json"),
                (b"Content-Length", b"%d" % len(body)),
                (b"Accept-Encoding", b"identity"),  # nothing to unpack, so no bomb
                (b"Connection", b"close"),
                (b"User-Agent", b"message-worker"),
                *((name.encode(), value.encode()) for name, value in headers.items()),
            ],
            content=body,
        )
        response = httpcore.HTTP11Connection(self._url.origin, stream).handle_request(request)
        told = bytearray()
        try:
            for part in response.iter_stream():
                told += part
                if len(told) > self._max_body_bytes:
                    break
        except (SilenceError, httpcore.ProtocolError):
            if self._whole_answer:
                raise
        retry_after = [value for name, value in response.headers if name.lower() == b"retry-after"]
        return Answer(
            status=response.status,
            body=bytes(told[: self._max_body_bytes + 1]),
            retry_after=retry_after[0].decode("latin-1") if retry_after else None,
        )
