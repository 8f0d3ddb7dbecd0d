"""A pooler in transaction mode before a Postgres, as far as a doctor can tell one from the real.

    with transaction_pooler(postgres_socket(url)) as port: ...

A few server connections, the last one given back first; each transaction of a client takes one.
"""

import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import LifoQueue
from typing import Literal

_ASKS_FOR_ENCRYPTION = {80877103, 80877104}  # SSLRequest, GSSENCRequest
_SERVERS = 4
_REFUSAL = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"

Options = Literal["passed", "dropped", "refused"]
"""What becomes of the startup parameter `options`."""


def _exactly(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = source.recv(count - len(data))
        if not more:
            raise ConnectionError("it hung up")
        data += more
    return data


def _message(source: socket.socket) -> tuple[bytes, bytes]:
    """Read one message of the server: its kind, and all of its bytes."""
    head = _exactly(source, 5)
    (length,) = struct.unpack(">I", head[1:])
    return head[:1], head + _exactly(source, length - 4)


def _startup(client: socket.socket) -> bytes:
    """Read the startup packet's parameters, refusing encryption before."""
    while True:
        (length,) = struct.unpack(">I", _exactly(client, 4))
        body = _exactly(client, length - 4)
        if struct.unpack(">I", body[:4])[0] not in _ASKS_FOR_ENCRYPTION:
            return body
        client.sendall(b"N")


def _without_options(startup: bytes) -> bytes:
    words = startup[4:].rstrip(b"\0").split(b"\0")
    pairs = zip(words[::2], words[1::2], strict=True)
    kept = b"".join(b"%s\0%s\0" % pair for pair in pairs if pair[0] != b"options")
    return startup[:4] + kept + b"\0"


class _Pool:
    """The connections to the server, opened for the first client and shared by all."""

    def __init__(self, target: Path, options: Options) -> None:
        self._target = target
        self._options = options
        self._free: LifoQueue[socket.socket] = LifoQueue()
        self._lock = threading.Lock()
        self._greeting = b""
        self._all: list[socket.socket] = []

    def serve(self, client: socket.socket) -> None:
        startup = _startup(client)
        if self._options == "refused":
            client.sendall(b"E" + struct.pack(">I", len(_REFUSAL) + 4) + _REFUSAL)
            return
        with self._lock:
            while len(self._all) < _SERVERS:
                self._open(_without_options(startup) if self._options == "dropped" else startup)
        client.sendall(self._greeting)
        while (data := client.recv(65536)) and data[:1] != b"X":
            server = self._free.get(timeout=10)
            server.sendall(data)
            self._until_idle(client, server)
            self._free.put(server)

    def _open(self, startup: bytes) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(self._target))
        server.sendall(struct.pack(">I", len(startup) + 4) + startup)
        kind, self._greeting = b"", b""
        while kind != b"Z":
            kind, message = _message(server)
            self._greeting += message
        self._all.append(server)
        self._free.put(server)

    def _until_idle(self, client: socket.socket, server: socket.socket) -> None:
        """Pass messages on until the transaction is over."""
        while True:
            ready, _, _ = select.select([client, server], [], [])
            if client in ready:
                data = client.recv(65536)
                if not data:
                    raise ConnectionError("the client left within a transaction")
                server.sendall(data)
            if server in ready:
                kind, message = _message(server)
                client.sendall(message)
                if kind == b"Z" and message[5:] == b"I":
                    return

    def close(self) -> None:
        for server in self._all:
            server.close()


@contextmanager
def transaction_pooler(target: Path, *, options: Options = "passed") -> Iterator[int]:
    """Give the port on 127.0.0.1. `target`: the server's Unix socket."""
    pool = _Pool(target, options)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def handle(client: socket.socket) -> None:
            with client, suppress(OSError):
                pool.serve(client)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=handle, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            pool.close()
