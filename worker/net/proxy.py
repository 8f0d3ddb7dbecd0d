"""A proxy between us and servers on the internet, by a tunnel (CONNECT) that TLS goes through.

The same rule for Telnyx, tools and webhooks: HTTPS_PROXY, also in small letters, holds for https
URLs, unless NO_PROXY names the host. Plain http stays inside the own network and goes straight.
"""

import base64
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined] # undocumented

import httpx

from worker.net.answer import IncompleteAnswerError
from worker.net.window import CallWindow

_MAX_HEAD_BYTES: Final = 16 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")
_USUAL_PORT: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Where the proxy is, and its `Proxy-Authorization`; None = it asks for none."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)


def proxy_for(url: httpx.URL, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for a URL; None = it is reached directly. Raises ValueError, unquoted."""
    text = environ.get("https_proxy") or environ.get("HTTPS_PROXY")
    if url.scheme != "https" or not text:
        return None
    excepted = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    host = url.host if url.port is None else f"{url.host}:{url.port}"
    if proxy_bypass_environment(host, {"no": excepted}):
        return None
    return _read(text)


def _read(text: str) -> Proxy:
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
    except (httpx.InvalidURL, UnicodeError):
        url = httpx.URL()
    # Not quoted: the faulty part may be a password.
    if url.scheme != "http" or not url.host:
        raise ValueError("HTTPS_PROXY: give http://[user:password@]host:port")
    login = None
    if url.userinfo:
        pair = ":".join(unquote(part) for part in url.userinfo.decode().split(":", 1))
        login = f"Basic {base64.b64encode(pair.encode()).decode()}"
    host = url.raw_host.decode("ascii")
    return Proxy(host=host, port=url.port or _USUAL_PORT, authorization=login)


def open_tunnel(
    sock: socket.socket, target: tuple[str, int], proxy: Proxy, window: CallWindow
) -> None:
    """Ask the proxy for a tunnel, before the send deadline. Raises IncompleteAnswerError."""
    host, port = target
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    head = bytearray()
    try:
        sock.settimeout(window.left_to_send_s())
        sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        while b"\r\n\r\n" not in head:
            sock.settimeout(window.left_to_send_s())
            part = sock.recv(_MAX_HEAD_BYTES)
            head += part
            if not part or len(head) > _MAX_HEAD_BYTES:
                raise IncompleteAnswerError("proxy: not HTTP")
    except OSError as error:
        raise IncompleteAnswerError(f"proxy: {type(error).__name__}") from error
    status = _STATUS.match(head)
    if status is None or not status[1].startswith(b"2"):
        reason = f"status {status[1].decode()}" if status else "not HTTP"
        raise IncompleteAnswerError(f"proxy: {reason}")
