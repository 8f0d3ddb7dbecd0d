# mypy: disallow-untyped-calls=False
"""kombu's AMQP transport behind the entry gate; written against kombu 5.7 and py-amqp 5.4.

RabbitMQ delivers properties, headers and body separately. They are put into the wrapper of a Redis
entry (see `entry`), with the body in base64, and pass the same gate. Until it is acknowledged,
RabbitMQ keeps the original message, and delivers it again unchanged.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any, Final

from amqp.method_framing import frame_handler
from amqp.serialization import decode_properties_basic, dumps
from kombu.transport import pyamqp as stock

from message_worker_client.envelope.wire import HEAD_BYTES, MAX_ENTRY_BYTES
from worker.domain.reasons import DeadLetterReason as Reason
from worker.queue.gate.entry import EntryRefusedError, Oversized
from worker.queue.gate.gate import Broadcast, EntryGate, GatedMessage, broadcast

_HEADER_FRAME: Final = 2
_BODY_FRAME: Final = 3
_SIZE_AT: Final = slice(4, 12)
"""Where a content header has the size of the body."""
MAX_BODY_BYTES: Final = (MAX_ENTRY_BYTES - 256 * 1024) * 3 // 4
"""In base64, with headers of two frames at most, it fits into the largest entry."""
_FIXED_BYTES: Final = 12
"""Length of class, weight and body size, which precede the properties in a content header."""
_ONLY_HEADERS: Final = b"\x20\x00"
"""Property flags that announce a table of headers and nothing else."""
UNREADABLE: Final = "unreadable"
"""Header that carries properties which py-amqp cannot read."""


def tolerant_frame_handler(connection: Any, callback: Any) -> Callable[[Any], bool]:  # noqa: ANN401
    """Make a frame handler that wraps properties which py-amqp cannot read.

    Examples: names that are not UTF-8, an impossible date.
    """
    # py-amqp raises in the loop that reads all queues. The worker would end, and RabbitMQ would
    # deliver the same message to the next one.
    handle: Callable[[Any], bool] = frame_handler(connection, callback)

    large: dict[int, _LargeBody] = {}

    def on_frame(frame: Any) -> bool:  # noqa: ANN401
        kind, channel, content = frame
        if kind == _HEADER_FRAME:
            content = _readable(content)
            size = int.from_bytes(content[_SIZE_AT], "big")
            if size > MAX_BODY_BYTES:
                large[channel] = _LargeBody(bytes(content), size)
        elif kind == _BODY_FRAME and channel in large:
            large[channel].add(content)
        if channel not in large:
            return handle((kind, channel, content))
        if large[channel].left > 0:
            # As py-amqp does for each frame: a silent connection is cut.
            connection.bytes_recv += 1
            return False
        body = large.pop(channel)
        handle((_HEADER_FRAME, channel, body.header()))
        connection.oversized = body.value()
        try:
            return handle((_BODY_FRAME, channel, body.head))
        finally:
            connection.oversized = None

    return on_frame


class _LargeBody:
    """A body of many frames, of which only the first bytes are kept, and the hash of all."""

    def __init__(self, header: bytes, size: int) -> None:
        self._header = header
        self._size = size
        self._hash = hashlib.sha256()
        self.left = size
        self.head = b""

    def add(self, piece: bytes) -> None:
        """Take the content of one frame."""
        self._hash.update(piece)
        self.head += bytes(piece[: HEAD_BYTES - len(self.head)])
        self.left -= len(piece)

    def header(self) -> bytes:
        """Return the header for a body of only the first bytes."""
        size = len(self.head).to_bytes(8, "big")
        return self._header[: _SIZE_AT.start] + size + self._header[_SIZE_AT.stop :]

    def value(self) -> Oversized:
        """Return what is left of the body."""
        return Oversized.of(self.head, size=self._size, sha256=self._hash.hexdigest())


def _readable(header: Any) -> Any:  # noqa: ANN401
    try:
        _decode(header, spare_calls=16)
    except Exception:  # noqa: BLE001 - a stranger may publish anything
        fixed, rest = bytes(header[:_FIXED_BYTES]), bytes(header[_FIXED_BYTES:])
        wrapped = {UNREADABLE: base64.b64encode(rest).decode()}
        return fixed + _ONLY_HEADERS + dumps("F", [wrapped])
    return header


def _decode(content: Any, *, spare_calls: int) -> None:  # noqa: ANN401
    # Runs deeper in the stack than py-amqp does later, so that a nesting which exhausts the stack
    # there already fails here.
    if spare_calls:
        _decode(content, spare_calls=spare_calls - 1)
    else:
        decode_properties_basic(content, _FIXED_BYTES)


_DROPPED: Final = EntryRefusedError(Reason.NOT_UNDERSTOOD, "dropped by the gate")


class GatedAmqpChannel(stock.Channel):
    """Reads queues through the gate, if `broker_transport_options` has one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        # Keep the raw bytes: by default py-amqp decodes a body that looks like text.
        super().__init__(*args, **kwargs, auto_decode=False)
        self._queue_of: dict[str, str] = {}

    def basic_consume(self, queue: str = "", consumer_tag: str = "", **options: Any) -> Any:  # noqa: ANN401
        """Remember the consumer's queue: a delivery names only the routing key."""
        self._queue_of[consumer_tag] = queue
        return super().basic_consume(queue, consumer_tag, **options)

    def message_to_python(self, raw_message: Any) -> Any:  # noqa: ANN401
        """Make the message for Celery. Never raises for a delivery on a queue with a gate."""
        gate: EntryGate | None = self.connection.entry_gate
        if gate is None:
            return super().message_to_python(raw_message)
        queue = self._queue_of.get(raw_message.delivery_info.get("consumer_tag", ""), "")
        entry = self.connection.oversized or _entry(raw_message)
        if queue not in gate.queues:
            return self._broadcast(raw_message.delivery_info, entry, queue)
        admitted = gate.admit(entry, queue=queue, priority=0, tag=raw_message.delivery_tag)
        return GatedMessage(admitted, channel=self)

    def _broadcast(self, where: Any, entry: bytes, queue: str) -> GatedMessage:  # noqa: ANN401
        read = broadcast(entry, queue=queue, delivery_info=dict(where))
        message = GatedMessage(read or Broadcast.of({}, b"", None, {}), channel=self)
        if read is None:
            # kombu then calls `on_decode_error` in place of the command.
            message.errors = [(EntryRefusedError, _DROPPED, None)]  # type: ignore[list-item]
        return message


class GatedConnection(stock.Connection):
    """Takes the gate from the transport's options."""

    Channel = GatedAmqpChannel

    def __init__(self, *args: Any, entry_gate: EntryGate | None = None, **options: Any) -> None:  # noqa: ANN401
        self.entry_gate = entry_gate
        self.oversized: Oversized | None = None
        """What is left of the message that is being delivered, if it is too large."""
        if entry_gate is not None:
            options["frame_handler"] = tolerant_frame_handler
        super().__init__(*args, **options)


class GatedAmqpTransport(stock.Transport):
    """Selected for `amqp://` by `install_gate`."""

    Connection = GatedConnection


class GatedAmqpsTransport(stock.SSLTransport):
    """Selected for `amqps://` by `install_gate`."""

    Connection = GatedConnection


def _entry(message: Any) -> bytes:  # noqa: ANN401
    properties = message.properties
    entry = {
        "body": base64.b64encode(message.body or b"").decode(),
        "content-type": properties.get("content_type"),
        "content-encoding": properties.get("content_encoding"),
        "headers": properties.get("application_headers") or {},
        "properties": {
            "delivery_tag": message.delivery_tag,
            "delivery_info": {"routing_key": message.delivery_info["routing_key"]},
            "body_encoding": "base64",
        },
    }
    try:
        # AMQP tables may hold bytes, decimals and dates.
        return json.dumps(entry, default=repr).encode()
    except (TypeError, ValueError, RecursionError):
        # A key of bytes, or a table nested too deep.
        return json.dumps(entry | {"headers": repr(entry["headers"])}).encode()
