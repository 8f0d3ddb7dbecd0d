"""Sockets that keep a call's deadlines: from the name lookup to the last byte.

The timeouts of httpx and httpcore hold for each read alone, so an answer that trickles never ends.
Here every step (each address tried, the TLS handshake, each send, each read) gets what is left of
ONE window.

Not kept: getaddrinfo has no timeout. The resolver's own (resolv.conf: `options timeout:1
attempts:2`) delays the call; the send deadline is looked at again after it: nothing is sent late.
"""

import select
import socket
import ssl
from collections.abc import Sequence
from typing import Any

import httpcore
import httpx

from worker.net.window import CallWindow

SEND_DEADLINE_PASSED = "send deadline passed"
DEADLINE_PASSED = "deadline passed"
STREAM_SILENT = "stream silent"
ENDED_EARLY = "ended early"


class LineError(Exception):
    """There is no complete answer. `str()` is a short reason, never a byte of what went or came."""


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Build a client context: TLS 1.2 or newer, HTTP/1.1 only. Slow (20 ms): one for all threads.

    None means the authorities that httpx brings.
    """
    if ca_file is None:
        context = httpx.create_ssl_context(trust_env=False)
    else:
        context = ssl.create_default_context(cafile=ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context


def dial(host: str, port: int, tls: ssl.SSLContext | None, window: CallWindow) -> socket.socket:
    """Connect, and shake hands when `tls` is given, before the send deadline.

    Each address gets an equal share of what is left: a dead one does not eat the time of the next.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise LineError(f"lookup: {type(error).__name__}") from error
    sock = _connect_one_of([(family, address) for family, _, _, _, address in found], window)
    if tls is None:
        return sock
    try:
        sock.settimeout(_left_to_send_s(window))
        return tls.wrap_socket(sock, server_hostname=host)
    except (OSError, ValueError) as error:
        raise LineError(f"tls: {type(error).__name__}") from error
    finally:
        sock.close()  # wrap_socket has taken the descriptor over; this closes what it left


def _connect_one_of(addresses: Sequence[tuple[int, Any]], window: CallWindow) -> socket.socket:
    last: OSError | None = None
    for tried, (family, address) in enumerate(addresses):
        share_s = _left_to_send_s(window) / (len(addresses) - tried)
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(share_s)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            last = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise LineError(f"connect: {type(last).__name__}") from last


def _left_to_send_s(window: CallWindow) -> float:
    left_s = window.left_to_send_s()
    if left_s <= 0:
        raise LineError(SEND_DEADLINE_PASSED)
    return left_s


class DeadlineStream(httpcore.NetworkStream):
    """One connected socket under the window of the call that uses it now.

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
        """Hold a part of the request back; an empty one ends it and sends all."""
        if buffer:
            self._held += buffer
        else:
            self._send()

    def _send(self) -> None:
        if not self._held:
            return
        view = memoryview(self._held)
        self._held = bytearray()
        _left_to_send_s(self.window)
        while view:
            self._sock.settimeout(self._left_s())
            self.window.wrote = True
            try:
                view = view[self._sock.send(view) :]
            except TimeoutError as error:
                raise self._over() from error
            except OSError as error:
                # httpcore passes over a WriteError and reads: a server may refuse half-way.
                raise httpcore.WriteError(type(error).__name__) from error

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 httpcore's per-read timeout
        """Read what is there, waiting for no longer than the window."""
        self._sock.settimeout(self._left_s())
        try:
            data = self._sock.recv(max_bytes)
        except TimeoutError as error:
            raise self._over() from error
        except OSError as error:
            raise LineError(f"read: {type(error).__name__}") from error
        self.ended = not data
        return data

    def _left_s(self) -> float:
        left_s = self.window.left_s()
        if left_s <= 0:
            raise self._over()
        return left_s

    def _over(self) -> LineError:
        return LineError(STREAM_SILENT if self.window.ends_by_silence else DEADLINE_PASSED)

    def close(self) -> None:
        """Close the socket."""
        self._held = bytearray()
        self._sock.close()

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 httpcore's signature
        """Answer httpcore's one question: has the other side spoken, or hung up, unasked."""
        if info != "is_readable":
            return None
        poll = select.poll()  # select() ends at descriptor 1023
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))
