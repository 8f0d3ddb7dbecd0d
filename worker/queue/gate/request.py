"""Celery's view of a running task, without what people wrote. Written against Celery 5.7.

What Celery shows comes from here: task events (Flower), `inspect active` and `reserved`, the log
lines "received" and "succeeded". A task class names its `Request`; no public interface.
"""

from typing import Any

from celery.worker.request import Request

from worker.queue.gate.gate import HIDDEN
from worker.queue.gate.message import GatedMessage


class PrivateRequest(Request):
    """Hides arguments, and saves Celery the second and third reading of the same JSON."""

    def __init__(self, message: GatedMessage, **options: Any) -> None:  # noqa: ANN401
        """Take the body as read: Celery's own decodes it here and again on the pool's thread."""
        super().__init__(message, **(options | {"body": message.payload, "decoded": True}))
        self._argsrepr = self._kwargsrepr = HIDDEN
        # What a task finds as `self.request.raw_body`: [args, kwargs, embed] as the bytes it came.
        self._request_dict["raw_body"] = message.body

    def info(self, safe: bool = False) -> dict[str, Any]:  # noqa: ARG002, FBT001, FBT002 - Celery's
        """Answer `inspect`. Celery's own gives the arguments unless asked for the safe form."""
        shown: dict[str, Any] = super().info(safe=True)
        return shown
