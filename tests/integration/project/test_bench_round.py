"""The bench harness: one round of the real thing, and a silent cut."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.rounds import run_round
from bench.silence import SilentProxy
from bench.stage import running_stage
from bench.variants import FLOOR

pytestmark = pytest.mark.slow


def test_a_silent_cut_is_seen_by_nobody_and_spares_new_connections() -> None:
    with echo_server() as port, SilentProxy(("127.0.0.1", port)) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as cut:
            cut.sendall(b"a")
            assert cut.recv(1) == b"a"
            assert proxy.cut() == 1
            cut.sendall(b"b")
            cut.settimeout(0.3)
            with pytest.raises(TimeoutError):
                cut.recv(1)
            assert unacknowledged(cut) == 1, "not even the kernel answers"
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as fresh:
            fresh.sendall(b"c")
            assert fresh.recv(1) == b"c"


def test_one_round_of_the_floor_is_measured_from_publish_to_reply() -> None:
    with running_stage() as stage, stage.subject(FLOOR, answers=5) as subject:
        measured = run_round(stage, subject, messages=20)
        assert subject.count_after(0) == 20
    assert measured.cpu_ms > 0
    assert len(measured.added_ms) == 20
    assert 0 < measured.added(50) < 10_000


def unacknowledged(sock: socket.socket) -> int:
    """Segments that the other side has not acknowledged: tcpi_unacked of linux/tcp.h."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
    (segments,) = struct.unpack_from("I", info, 24)
    return int(segments)


@contextmanager
def echo_server() -> Iterator[int]:
    def echo(sock: socket.socket) -> None:
        with sock:
            while data := sock.recv(100):
                sock.sendall(data)

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(sock,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
