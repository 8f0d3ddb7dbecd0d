"""A connection to an IMAP server that ends within an answer, as if complete, or stands still."""

import contextlib
import socket
import threading
from collections.abc import Iterator


class CuttingProxy:
    """Forwards to a port of 127.0.0.1; cuts the answers with `BODY[]` that are still to be cut."""

    def __init__(self, target: int, *, cuts: int, after: int) -> None:
        """`after`: bytes of such an answer that arrive."""
        self._target, self._after = target, after
        self.cuts = cuts
        self.holds: bytes | None = None
        """A request with this word is never forwarded."""
        self.held = threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listening.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for work in (self._requests, self._answers):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self.holds and self.holds in data:
                    self.held.set()
                    continue
                server.sendall(data)
        server.close()

    def _answers(self, client: socket.socket, server: socket.socket) -> None:
        left: int | None = None
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if left is None and self.cuts and b"BODY[]" in data:
                    left = self._after
                if left is not None and len(data) >= left:
                    client.sendall(data[:left])
                    self.cuts -= 1
                    break
                left = None if left is None else left - len(data)
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
        client.close()


@contextlib.contextmanager
def cutting_proxy(target: int, *, cuts: int = 0, after: int = 0) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(target, cuts=cuts, after=after)
    threading.Thread(target=proxy.serve, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.listening.shutdown(socket.SHUT_RDWR)
        proxy.listening.close()
