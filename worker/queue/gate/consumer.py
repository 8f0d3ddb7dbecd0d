"""Celery's consumer with its four ways of dropping a message closed. Written against Celery 5.7.

The gate lets nothing through that Celery would refuse, so none of the four should ever be taken.
Where one is, the gate has a gap: the message becomes a dead letter all the same, and nothing of it
is logged (Celery's own handlers print body and headers).
"""

import json
import logging
from collections.abc import Callable
from typing import Any, ClassVar

from celery.exceptions import ImproperlyConfigured
from celery.worker.consumer import Consumer

from worker.domain.reasons import DeadLetterReason as Reason
from worker.queue.gate.gate import DEAD_LETTER_TASK, Admitted, EntryGate
from worker.queue.gate.message import GatedMessage
from worker.queue.gate.rejected_entry import RejectedEntry

HEARTBEAT_S = 5
"""A RabbitMQ that misses two is taken for dead."""

logger = logging.getLogger(__name__)


class GuardedConsumer(Consumer):
    """Selected by the setting `worker_consumer`."""

    class Blueprint(Consumer.Blueprint):
        """Without the 28 queues that Celery declares on RabbitMQ for an `eta`, which we ignore."""

        default_steps: ClassVar = [
            step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in step
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        # AMQP's own, for this connection alone: nobody sends any for those that only publish.
        self.amqheartbeat = HEARTBEAT_S
        self._gate: EntryGate = self.app.entry_gate
        if unguarded := set(self.app.amqp.queues.consume_from) - self._gate.queues:
            names = ", ".join(sorted(unguarded))
            raise ImproperlyConfigured(f"no accepted tasks for queue {names}: see install_gate")

    def add_task_queue(self, queue: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Obey remote control (Flower has a button), but not for a queue without a gate."""
        if queue in self._gate.queues:
            super().add_task_queue(queue, *args, **kwargs)
        else:
            logger.warning("queue_refused")

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:  # noqa: ANN401
        """Make it, once a connection, and keep it for `_set_aside`."""
        handle: Callable[[Any], None] = super().create_task_handler(*args, **kwargs)
        self._handle = handle
        return handle

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ANN401, ARG002
        """Celery: neither protocol 1 nor 2, dropped."""
        self._set_aside(message, "on_unknown_message")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002
        """Celery: no such task in this worker, dropped."""
        self._set_aside(message, "on_unknown_task")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002
        """Celery: InvalidTaskError or ContentDisallowed, dropped."""
        self._set_aside(message, "on_invalid_task")

    def on_decode_error(self, message: Any, exc: Exception) -> None:  # noqa: ANN401
        """Celery: unreadable, dropped. Also called for remote control, where dropping is right."""
        if isinstance(getattr(message, "_raw", None), Admitted):
            self._set_aside(message, "on_decode_error")
            return
        logger.warning("control_message_unreadable error=%s", type(exc).__name__)
        message.ack()

    def _set_aside(self, message: Any, detail: str) -> None:  # noqa: ANN401
        """Deliver a letter under the delivery tag of the message: acking the one acks the other."""
        raw = message._raw  # noqa: SLF001
        queue = raw["properties"]["delivery_info"]["routing_key"]
        if raw["headers"]["task"] == DEAD_LETTER_TASK:
            # Refused even that: left unacked, it comes back after the visibility timeout.
            logger.error("letter_refused queue=%s handler=%s", queue, detail)
            return
        bare = json.dumps(raw).encode()
        letter = RejectedEntry(raw=bare, reason=Reason.NOT_UNDERSTOOD, detail=detail, queue=queue)
        substitute = self._gate.set_aside(letter)
        substitute["properties"]["delivery_tag"] = message.delivery_tag
        self._handle(GatedMessage(substitute, channel=message.channel))
