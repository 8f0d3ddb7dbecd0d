"""A TCP server of threads whose every byte the test decides, and canned HTTP answers for it."""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Serve = Callable[[socket.socket, "RawServer"], None]


@dataclass
class RawServer:
    """What the server has seen so far."""

    url: str
    port: int
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    """Set at the end of the test: a server that hangs waits for it."""

    def read_request(self, conn: socket.socket) -> bytes:
        """Read one whole request; empty when the client has hung up."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = conn.recv(65536)
            if not more:
                return b""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-len")]
        length = int(lengths[0].split(b":")[1]) if lengths else 0
        while len(body) < length:
            body += conn.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]


@contextlib.contextmanager
def raw_server(serve: Serve) -> Iterator[RawServer]:
    """Run `serve` in a thread for each connection; an OSError in it ends that connection only."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        port = listener.getsockname()[1]
        server = RawServer(url=f"http://127.0.0.1:{port}/v2", port=port)
        threads: list[threading.Thread] = []

        def handle(conn: socket.socket) -> None:
            with conn, contextlib.suppress(OSError):
                serve(conn, server)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    conn, _ = listener.accept()
                    server.connections += 1
                    threads.append(threading.Thread(target=handle, args=(conn,), daemon=True))
                    threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield server
        finally:
            server.gone.set()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(5)
            for thread in threads:
                thread.join(5)


def answers(*canned: bytes) -> Serve:
    """Give the answers one after the other, over all connections; the last one for ever."""

    def serve(conn: socket.socket, server: RawServer) -> None:
        while server.read_request(conn):
            conn.sendall(canned[min(len(server.requests), len(canned)) - 1])

    return serve


def http(body: object = b"", *, status: int = 200, headers: dict[str, str] | None = None) -> bytes:
    """Return one complete answer; what is not bytes goes as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(raw)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


def reset(conn: socket.socket) -> None:
    """Close with RST instead of FIN."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


def response_object(text: str = "Hello!") -> dict[str, object]:
    """Return a completed response as the Responses endpoint answers it."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "output": [{"type": "message", "role": "assistant", "content": [part]}],
        "usage": {"input_tokens": 31, "output_tokens": 9},
    }
