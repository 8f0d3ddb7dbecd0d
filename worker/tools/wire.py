"""One POST on a connection of its own, under one deadline from the first address to the last byte.

A fresh connection each time: tools are called far less often than the model, and a kept one that
the server closes just then would make an unknown outcome out of nothing. So there is no pool, no
client for each thread, and nothing to close. Driven by httpcore's HTTP/1.1 connection, because the
timeouts of httpx hold for each read alone: an answer that trickles would never end.

Not kept: getaddrinfo has no timeout but the resolver's own.
"""

import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpcore
import httpx

from worker.domain.tools import MAX_OUTPUT_BYTES

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS has no BOOTTIME
_DEADLINE_PASSED: Final = "deadline passed"
_READ_BYTES: Final = 64 * 1024


def boottime() -> float:
    """Seconds since boot, sleep included. Only differences mean anything."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    """At most one byte more than MAX_OUTPUT_BYTES: then there was more."""
    retry_after: str | None = None
    """That header, as it came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """There is no whole answer."""

    reason: str
    """Short, never a byte of what went or came."""
    wrote: bool
    """The other side may have seen something of the request."""


class Endpoint:
    """One URL. Safe to share."""

    def __init__(self, url: httpx.URL, tls: ssl.SSLContext) -> None:
        self._url = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        self._address = (url.raw_host.decode("ascii"), self._url.origin.port)
        self._tls = tls if url.scheme == "https" else None
        self._host_header = url.netloc

    def post(
        self, body: bytes, headers: Mapping[str, str], *, connect_by: float, finish_by: float
    ) -> Answer | Silence:
        """POST once, follow nothing. Both deadlines are of `boottime`."""
        try:
            sock = _dial(self._address, self._tls, min(connect_by, finish_by))
        except _SilenceError as error:
            return Silence(reason=str(error), wrote=False)
        stream = _Stream(sock, finish_by)
        try:
            return self._exchange(stream, body, headers)
        except _SilenceError as error:
            reason = str(error)
        except httpcore.ProtocolError:  # h11 puts what the server sent into its texts
            reason = "ended early" if stream.ended else "not HTTP"
        finally:
            stream.close()
        return Silence(reason=reason, wrote=stream.wrote)

    def _exchange(self, stream: "_Stream", body: bytes, headers: Mapping[str, str]) -> Answer:
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
        for part in response.iter_stream():
            told += part
            if len(told) > MAX_OUTPUT_BYTES:
                break
        retry_after = [value for name, value in response.headers if name.lower() == b"retry-after"]
        return Answer(
            status=response.status,
            body=bytes(told[: MAX_OUTPUT_BYTES + 1]),
            retry_after=retry_after[0].decode("latin-1") if retry_after else None,
        )


class _SilenceError(Exception):
    """Carries a reason out of httpcore."""


def _left_s(deadline: float) -> float:
    left_s = deadline - boottime()
    if left_s <= 0:
        raise _SilenceError(_DEADLINE_PASSED)
    return left_s


def _dial(address: tuple[str, int], tls: ssl.SSLContext | None, connect_by: float) -> socket.socket:
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _SilenceError(f"lookup: {type(error).__name__}") from None
    sock = _connect_one_of([(family, one) for family, _, _, _, one in found], connect_by)
    if tls is None:
        return sock
    try:
        sock.settimeout(_left_s(connect_by))
        return tls.wrap_socket(sock, server_hostname=address[0])
    except (OSError, ValueError) as error:
        raise _SilenceError(f"tls: {type(error).__name__}") from None
    finally:
        sock.close()  # wrap_socket has taken the descriptor over; this closes what it left


def _connect_one_of(addresses: Sequence[tuple[int, Any]], connect_by: float) -> socket.socket:
    """Try each address; each gets an equal share of what is left."""
    reason = "lookup: nothing found"
    for tried, (family, address) in enumerate(addresses):
        share_s = _left_s(connect_by) / (len(addresses) - tried)
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(share_s)
            sock.connect(address)
        except OSError as error:
            sock.close()
            reason = f"connect: {type(error).__name__}"
        else:
            return sock
    raise _SilenceError(reason)


class _Stream(httpcore.NetworkStream):
    """A connected socket; every step gets what is left until the one deadline."""

    def __init__(self, sock: socket.socket, finish_by: float) -> None:
        self._sock = sock
        self._finish_by = finish_by
        self.wrote = False
        self.ended = False
        """The other side has closed."""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 httpcore's per-write timeout
        view = memoryview(buffer)
        while view:
            self._sock.settimeout(_left_s(self._finish_by))
            self.wrote = True
            try:
                view = view[self._sock.send(view) :]
            except TimeoutError:
                raise _SilenceError(_DEADLINE_PASSED) from None
            except OSError as error:
                # httpcore passes over a WriteError and reads: a server may refuse half-way.
                raise httpcore.WriteError(type(error).__name__) from error

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 httpcore's per-read timeout
        self._sock.settimeout(_left_s(self._finish_by))
        try:
            data = self._sock.recv(min(max_bytes, _READ_BYTES))
        except TimeoutError:
            raise _SilenceError(_DEADLINE_PASSED) from None
        except OSError as error:
            raise _SilenceError(f"read: {type(error).__name__}") from None
        self.ended = not data
        return data

    def close(self) -> None:
        self._sock.close()
