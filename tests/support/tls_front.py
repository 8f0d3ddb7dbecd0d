"""A front that speaks TLS, before a server of ours that does not: the embedded Redis has no TLS."""

import contextlib
import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CHUNK_BYTES = 65536


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate of `localhost`, signed by itself, and its key."""

    cert: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    """Make one in this folder."""
    made = Certificate(cert=folder / "cert.pem", key=folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(made.key), "-out", str(made.cert)]
    subprocess.run(command, check=True, capture_output=True)
    return made


@contextlib.contextmanager
def tls_front(port: int, certificate: Certificate) -> Iterator[int]:
    """Take TLS on a port of localhost, which is given, and pass all on to `port`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener, context, port), daemon=True).start()
        yield listener.getsockname()[1]


@contextlib.contextmanager
def postgres_with_tls(certificate: Certificate) -> Iterator[int]:
    """Offer TLS on a port of localhost as Postgres does, up to the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError):
                    client.recv(8)  # SSLRequest
                    client.sendall(b"S")
                    context.wrap_socket(client, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def _serve(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            conn, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_pass_on, args=(conn, context, port), daemon=True).start()


def _pass_on(conn: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with (
        contextlib.suppress(OSError),
        conn,
        context.wrap_socket(conn, server_side=True) as front,
        socket.create_connection(("127.0.0.1", port)) as back,
    ):
        # One thread a connection: an SSL socket must not be used by two at once.
        front.setblocking(False)
        while _relay(front, back):
            pass


def _relay(front: ssl.SSLSocket, back: socket.socket) -> bool:
    """Wait for either side, and pass on what came; False = one has ended."""
    ready = [front] if front.pending() else select.select([front, back], [], [])[0]
    if front in ready:
        try:
            came = front.recv(_CHUNK_BYTES)
        except ssl.SSLWantReadError:
            return True
        if not came:
            return False
        back.sendall(came)
    if back in ready:
        came = back.recv(_CHUNK_BYTES)
        if not came:
            return False
        front.setblocking(True)
        front.sendall(came)
        front.setblocking(False)
    return True
