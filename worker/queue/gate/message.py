# mypy: disallow-untyped-calls=False
"""An admitted entry in Celery's hands: the message, and the request of the running task.

Both are the same for every transport. Written against Celery 5.7 and kombu 5.7.
"""

from typing import Any

from celery.worker.request import Request
from kombu.message import Message as PlainMessage
from kombu.transport import virtual

from worker.queue.gate.gate import HIDDEN, Admitted


class GatedMessage(virtual.Message):
    """A message whose base64 and JSON the gate has already decoded."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:  # noqa: ANN401
        if not isinstance(payload, Admitted):
            # Remote control and events pass no gate.
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


class PrivateRequest(Request):
    """Celery's view of a running task, without what people wrote.

    Task events (Flower), `inspect active` and `reserved` and the log lines "received" and
    "succeeded" are made from it. A task class names its `Request`; that is no public interface.
    """

    def __init__(self, message: GatedMessage, **options: Any) -> None:  # noqa: ANN401
        """Take the decoded body: Celery's own decodes it here and again on the pool's thread."""
        super().__init__(message, **(options | {"body": message.payload, "decoded": True}))
        self._argsrepr = self._kwargsrepr = HIDDEN
        # A task reads it as `self.request.raw_body`: the bytes of [args, kwargs, embed].
        self._request_dict["raw_body"] = message.body

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002 - Celery's
        """Answer `inspect` in the safe form; Celery's default shows the arguments."""
        shown: dict[str, Any] = super().info(safe=True)
        return shown
