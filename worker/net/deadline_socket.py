"""A connected socket under one deadline: lookup, connect, TLS and every byte share it."""

import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import httpcore

from worker.net.clock import boottime

_DEADLINE_PASSED: Final = "deadline passed"
_READ_BYTES: Final = 64 * 1024

Lookup: TypeAlias = Callable[[str, int], Sequence[tuple[int, Any]]]
"""Takes host and port; gives families and socket addresses. Raises OSError or UnicodeError."""


class SilenceError(Exception):
    """There is no whole answer; `str()` is a short reason, never a byte of what went or came."""


def look_up(host: str, port: int) -> Sequence[tuple[int, Any]]:
    """Ask the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def dial(
    address: tuple[str, int],
    tls: ssl.SSLContext | None,
    *,
    connect_by: float,
    allowed: Callable[[str], bool] | None,
    lookup: Lookup,
) -> socket.socket:
    """Connect to an allowed address of a host. Raises `SilenceError`.

    The name is looked up once and the connection goes to what was checked: no second answer slips
    in between. The certificate has to be the name's.
    """
    found = _look_up_by(connect_by, lookup, address)
    passed = [one for one in found if allowed is None or allowed(one[1][0])]
    if found and not passed:
        raise SilenceError("address not allowed")
    sock = _connect_one_of(passed, connect_by)
    if tls is None:
        return sock
    try:
        sock.settimeout(_left_s(connect_by))
        return tls.wrap_socket(sock, server_hostname=address[0])
    except (OSError, ValueError) as error:
        raise SilenceError(f"tls: {type(error).__name__}") from None
    finally:
        sock.close()  # wrap_socket has taken the descriptor over; this closes what it left


def _left_s(deadline: float) -> float:
    left_s = deadline - boottime()
    if left_s <= 0:
        raise SilenceError(_DEADLINE_PASSED)
    return left_s


def _look_up_by(
    deadline: float, lookup: Lookup, address: tuple[str, int]
) -> Sequence[tuple[int, Any]]:
    """Look up on a thread of its own: the resolver has timeouts, but no deadline."""
    came: list[Sequence[tuple[int, Any]] | OSError | UnicodeError] = []

    def look() -> None:
        try:
            came.append(lookup(*address))
        except (OSError, UnicodeError) as error:
            came.append(error)

    thread = threading.Thread(target=look, name="lookup", daemon=True)
    thread.start()
    thread.join(_left_s(deadline))
    if not came:
        raise SilenceError(f"lookup: {_DEADLINE_PASSED}")
    (found,) = came
    if isinstance(found, Exception):
        raise SilenceError(f"lookup: {type(found).__name__}")
    return found


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
    raise SilenceError(reason)


class Stream(httpcore.NetworkStream):
    """A connected socket; every step gets what is left until the one deadline."""

    def __init__(self, sock: socket.socket, finish_by: float) -> None:
        self._sock = sock
        self._finish_by = finish_by
        self.wrote = False
        self.ended = False
        """The other side has closed."""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 httpcore's per-write timeout
        """Send all of it."""
        view = memoryview(buffer)
        while view:
            self._sock.settimeout(_left_s(self._finish_by))
            self.wrote = True
            try:
                view = view[self._sock.send(view) :]
            except TimeoutError:
                raise SilenceError(_DEADLINE_PASSED) from None
            except OSError as error:
                # httpcore passes over a WriteError and reads: a server may refuse half-way.
                raise httpcore.WriteError(type(error).__name__) from error

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 httpcore's per-read timeout
        """Give what has come; empty = the other side has closed."""
        self._sock.settimeout(_left_s(self._finish_by))
        try:
            data = self._sock.recv(min(max_bytes, _READ_BYTES))
        except TimeoutError:
            raise SilenceError(_DEADLINE_PASSED) from None
        except OSError as error:
            raise SilenceError(f"read: {type(error).__name__}") from None
        self.ended = not data
        return data

    def close(self) -> None:
        """Hang up."""
        self._sock.close()
