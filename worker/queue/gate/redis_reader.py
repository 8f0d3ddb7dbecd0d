# mypy: disallow-untyped-calls=False
"""Connections to Redis that never hold more of one value than the largest entry we take.

Redis announces the length of a value before the value. One beyond the limit is read piece by piece,
hashed and dropped; what remains is an `Oversized`. So a queue entry of any size, a note of an
unacknowledged one, or a broadcast costs no memory. Overrides internals of redis-py 8.
"""

import hashlib
from typing import Any, Final

from redis._parsers import _RESP2Parser, _RESP3Parser
from redis._parsers.socket import SocketBuffer
from redis.utils import SENTINEL

from message_worker_client.envelope.wire import HEAD_BYTES, MAX_ENTRY_BYTES
from worker.queue.gate.entry import Oversized
from worker.queue.gate.headers import TAIL_BYTES

MAX_VALUE_BYTES: Final = MAX_ENTRY_BYTES * 3 // 2
"""A rejected entry of `MAX_ENTRY_BYTES` is written in base64, inside JSON."""
_PIECE_BYTES: Final = 256 * 1024
_LINE_END_BYTES: Final = 2


class BoundedBuffer(SocketBuffer):
    """Reads what a parser asks for."""

    def read(self, length: int, timeout: Any = SENTINEL) -> bytes:  # noqa: ANN401 - redis-py's
        """Read one value, or what remains of a large one."""
        if length <= MAX_VALUE_BYTES:
            value: bytes = super().read(length, timeout=timeout)
            return value
        digest, head, tail, left = hashlib.sha256(), b"", b"", length
        while left:
            piece = self._some(min(left, _PIECE_BYTES), timeout)
            digest.update(piece)
            head += piece[: HEAD_BYTES - len(head)]
            tail = (tail + piece[-TAIL_BYTES:])[-TAIL_BYTES:]
            left -= len(piece)
        left = _LINE_END_BYTES
        while left:
            left -= len(self._some(left, timeout))
        return Oversized.of(head, size=length, sha256=digest.hexdigest(), tail=tail)

    def _some(self, at_most: int, timeout: Any) -> bytes:  # noqa: ANN401
        while not (piece := self._buffer.read(at_most)):
            # Everything has been taken out: otherwise the buffer would grow with the value.
            self._buffer.seek(0)
            self._buffer.truncate()
            self._read_from_socket(timeout=timeout)
        return piece


class _Bounded:
    """Gives a parser the bounded buffer."""

    _buffer: Any

    def on_connect(self, connection: Any) -> None:  # noqa: ANN401
        super().on_connect(connection)  # type: ignore[misc] # of the parser
        self._buffer = BoundedBuffer(
            connection._sock,  # noqa: SLF001
            self.socket_read_size,  # type: ignore[attr-defined]
            connection.socket_timeout,
        )


class _Resp2(_Bounded, _RESP2Parser):
    pass


class _Resp3(_Bounded, _RESP3Parser):
    pass


def bounded(connection_class: Any) -> Any:  # noqa: ANN401 - redis-py's classes of connections
    """Return a subclass of a connection class that reads bounded values."""

    class Bounded(connection_class):
        def set_parser(self, _parser_class: Any) -> None:  # noqa: ANN401
            # Also in place of hiredis, which holds every value as a whole.
            super().set_parser(_Resp3 if self.protocol == 3 else _Resp2)  # noqa: PLR2004

    return Bounded
