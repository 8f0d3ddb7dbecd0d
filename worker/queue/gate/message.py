# mypy: disallow-untyped-calls=False
"""What Celery gets of an entry the gate has passed, whatever transport brought it."""

from typing import Any

from kombu.message import Message as PlainMessage
from kombu.transport import virtual

from worker.queue.gate.gate import Admitted


class GatedMessage(virtual.Message):
    """kombu's decodes base64 here and leaves the JSON for later; the gate has done both."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:  # noqa: ANN401
        if not isinstance(payload, Admitted):  # remote control, events
            super().__init__(payload, channel=channel, **kwargs)
            return
        self._raw = payload
        properties = payload["properties"]
        PlainMessage.__init__(
            self,
            body=payload.body,
            channel=channel,
            delivery_tag=properties["delivery_tag"],
            content_type=payload["content-type"],
            content_encoding=payload["content-encoding"],
            headers=payload["headers"],
            properties=properties,
            delivery_info=properties["delivery_info"],
            **kwargs,
        )
        self._decoded_cache = payload.payload
