# mypy: disallow-untyped-calls=False
"""kombu's AMQP transport behind the entry gate; written against kombu 5.7 and py-amqp 5.4.

RabbitMQ delivers properties, headers and body separately. They are put into the wrapper of a Redis
entry (see `entry`), with the body in base64, and pass the same gate. Until it is acknowledged,
RabbitMQ keeps the original message, and delivers it again unchanged.
"""

import base64
import json
from collections.abc import Callable
from typing import Any, Final

from amqp.method_framing import frame_handler
from amqp.serialization import decode_properties_basic, dumps
from kombu.transport import pyamqp as stock

from worker.queue.gate.gate import EntryGate, GatedMessage

_HEADER_FRAME: Final = 2
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

    def on_frame(frame: Any) -> bool:  # noqa: ANN401
        kind, channel, content = frame
        if kind == _HEADER_FRAME:
            try:
                _decode(content, spare_calls=16)
            except Exception:  # noqa: BLE001 - a stranger may publish anything
                fixed, rest = bytes(content[:_FIXED_BYTES]), bytes(content[_FIXED_BYTES:])
                wrapped = {UNREADABLE: base64.b64encode(rest).decode()}
                content = fixed + _ONLY_HEADERS + dumps("F", [wrapped])
        return handle((kind, channel, content))

    return on_frame


def _decode(content: Any, *, spare_calls: int) -> None:  # noqa: ANN401
    # Runs deeper in the stack than py-amqp does later, so that a nesting which exhausts the stack
    # there already fails here.
    if spare_calls:
        _decode(content, spare_calls=spare_calls - 1)
    else:
        decode_properties_basic(content, _FIXED_BYTES)


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
        queue = self._queue_of.get(raw_message.delivery_info.get("consumer_tag", ""))
        if gate is None or queue not in gate.queues:
            return super().message_to_python(raw_message)
        admitted = gate.admit(_entry(raw_message), queue=queue, priority=0)
        admitted["properties"]["delivery_tag"] = raw_message.delivery_tag
        return GatedMessage(admitted, channel=self)


class GatedConnection(stock.Connection):
    """Takes the gate from the transport's options."""

    Channel = GatedAmqpChannel

    def __init__(self, *args: Any, entry_gate: EntryGate | None = None, **options: Any) -> None:  # noqa: ANN401
        self.entry_gate = entry_gate
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
