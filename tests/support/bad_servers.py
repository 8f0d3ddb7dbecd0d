"""Ways to serve a `raw_server` badly, and any way over TLS."""

import socket
import ssl
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Self

from tests.support.raw_server import RawServer, Serve, reset


@dataclass(frozen=True)
class Certificate:
    """Of `localhost`, signed by itself: files in the PEM format."""

    cert: str
    key: str

    @classmethod
    def made_in(cls, folder: Path) -> Self:
        made = cls(cert=str(folder / "cert.pem"), key=str(folder / "key.pem"))
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        subprocess.run(
            [*command, "-keyout", made.key, "-out", made.cert], check=True, capture_output=True
        )
        return made


def over_tls(certificate: Certificate, serve: Serve) -> Serve:
    """Serve the same way behind a handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)

    def wrapped(conn: socket.socket, server: RawServer) -> None:
        with context.wrap_socket(conn, server_side=True) as tls:
            serve(tls, server)

    return wrapped


def never_read(conn: socket.socket, server: RawServer) -> None:
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that the kernel takes little
    server.gone.wait(30)


def hang(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)
    server.gone.wait(30)


def hang_up(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)


def reset_after_request(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)
    reset(conn)


def half_a_body(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)
    conn.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"status":"completed"}')


def trickle(conn: socket.socket, data: Iterable[int]) -> None:
    """Send byte by byte, until the other side hangs up."""
    for byte in data:
        conn.sendall(bytes([byte]))
        time.sleep(0.05)


def trickle_head(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)
    trickle(conn, chain(b"HTTP/1.1 200 OK\r\nx-long: ", repeat(ord("a"))))


def trickle_body(conn: socket.socket, server: RawServer) -> None:
    server.read_request(conn)
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    trickle(conn, repeat(ord(" ")))
