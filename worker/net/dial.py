"""From a host's name to a connected socket: lookup, connect and TLS, before the send deadline."""

import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeAlias

import httpx

from worker.net.answer import IncompleteAnswerError
from worker.net.proxy import Proxy, open_tunnel
from worker.net.window import DEADLINE_PASSED, CallWindow

Lookup: TypeAlias = Callable[[str, int], Sequence[tuple[int, Any]]]
"""Takes host and port; returns families and socket addresses. Raises OSError or UnicodeError."""


def tls_context(environ: Mapping[str, str], *, http: bool = True) -> ssl.SSLContext:
    """Trust the authorities that httpx brings, or those of SSL_CERT_FILE and SSL_CERT_DIR.

    TLS 1.2 or newer; `http`: HTTP/1.1 only. Slow (20 ms): build one for all threads. Raises
    ValueError if they cannot be read.
    """
    cafile, capath = (environ.get(name) or None for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    try:
        if cafile or capath:
            context = ssl.create_default_context(cafile=cafile, capath=capath)
        else:
            context = httpx.create_ssl_context(trust_env=False)
    except OSError as error:
        name = "SSL_CERT_FILE" if cafile else "SSL_CERT_DIR"
        raise ValueError(f"{name} cannot be read ({type(error).__name__})") from None
    if http:
        context.set_alpn_protocols(["http/1.1"])
    return context


def look_up(host: str, port: int) -> Sequence[tuple[int, Any]]:
    """Ask the system's resolver.

    It has no deadline, only the timeouts of resolv.conf (`options timeout:1 attempts:2`).
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def bounded(lookup: Lookup, window: CallWindow) -> Lookup:
    """Return a lookup that ends with the send deadline: it runs in a thread of its own."""

    def look(host: str, port: int) -> Sequence[tuple[int, Any]]:
        found: Future[Sequence[tuple[int, Any]]] = Future()

        def run() -> None:
            try:
                found.set_result(lookup(host, port))
            except (OSError, UnicodeError) as error:
                found.set_exception(error)

        # A daemon: a resolver that hangs must not keep the process from ending.
        threading.Thread(target=run, name="lookup", daemon=True).start()
        if not wait([found], window.left_to_send_s()).done:
            raise IncompleteAnswerError(f"lookup: {DEADLINE_PASSED}")
        return found.result()

    return look


def dial(
    address: tuple[str, int],
    tls: ssl.SSLContext | None,
    window: CallWindow,
    *,
    allowed: Callable[[str], bool] | None = None,
    lookup: Lookup = look_up,
    proxy: Proxy | None = None,
) -> socket.socket:
    """Connect to an allowed address of a host. Raises IncompleteAnswerError.

    `allowed` is asked about each address, as text; None = all are.
    """
    host, port = address
    if proxy is None:
        sock = connect_one_of(_addresses(address, allowed, lookup), window)
    else:
        # The proxy gets the address that was checked: it would look the name up for itself.
        checked = host if allowed is None else _addresses(address, allowed, lookup)[0][1][0]
        sock = connect_one_of(_addresses((proxy.host, proxy.port), None, lookup), window)
        try:
            open_tunnel(sock, (checked, port), proxy, window)
        except BaseException:
            sock.close()
            raise
    if tls is None:
        return sock
    try:
        sock.settimeout(window.left_to_send_s())
        # The certificate has to be the name's, wherever the address came from.
        return tls.wrap_socket(sock, server_hostname=host)
    except (OSError, ValueError) as error:
        raise IncompleteAnswerError(f"tls: {type(error).__name__}") from error
    finally:
        sock.close()  # wrap_socket has taken the descriptor over; this closes what it left


def _addresses(
    address: tuple[str, int], allowed: Callable[[str], bool] | None, lookup: Lookup
) -> Sequence[tuple[int, Any]]:
    try:
        found = lookup(*address)
    except (OSError, UnicodeError) as error:
        raise IncompleteAnswerError(f"lookup: {type(error).__name__}") from error
    # Looked up once, and only checked addresses are tried: a second answer of a rebinding name
    # server could lead to an address inside our own network.
    passed = [one for one in found if allowed is None or allowed(one[1][0])]
    if not passed:
        raise IncompleteAnswerError("address not allowed" if found else "lookup: nothing found")
    return passed


def connect_one_of(addresses: Sequence[tuple[int, Any]], window: CallWindow) -> socket.socket:
    """Try each address with an equal share of what is left: a dead one leaves time for the next."""
    last: OSError | None = None
    for tried, (family, address) in enumerate(addresses):
        share_s = window.left_to_send_s() / (len(addresses) - tried)
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(share_s)
            sock.connect(address)
            # A request leaves in one piece: Nagle's algorithm could only hold its end back.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            last = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise IncompleteAnswerError(f"connect: {type(last).__name__}") from last
