"""Celery's consumer, with its four ways of dropping a message closed. Written against Celery 5.7.

The gate admits nothing that Celery would refuse, so none of the four should ever run. If one does,
the gate has a gap: the message still becomes a dead letter, and none of it is logged (Celery's own
handlers print body and headers).
"""

import json
from collections.abc import Callable
from typing import Any, ClassVar

from celery.exceptions import ImproperlyConfigured
from celery.worker.consumer import Consumer

from worker.domain.reasons import DeadLetterReason as Reason
from worker.observability.logs import log
from worker.queue.gate.entry import RejectedEntry
from worker.queue.gate.gate import DEAD_LETTER_TASK, Admitted, EntryGate
from worker.queue.gate.message import GatedMessage

HEARTBEAT_S = 5
"""A RabbitMQ that misses two of them counts as dead."""


class GuardedConsumer(Consumer):
    """Selected by the setting `worker_consumer`."""

    class Blueprint(Consumer.Blueprint):
        """Celery's steps without the one for delayed delivery."""

        # That step declares 28 queues on RabbitMQ, for an `eta` that the gate drops anyway.
        default_steps: ClassVar = [
            step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in step
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        # Heartbeats for this connection alone: nothing would send them on those that only publish.
        self.amqheartbeat = HEARTBEAT_S
        self._gate: EntryGate = self.app.entry_gate
        if unguarded := set(self.app.amqp.queues.consume_from) - self._gate.queues:
            names = ", ".join(sorted(unguarded))
            raise ImproperlyConfigured(f"no accepted tasks for queue {names}: see install_gate")

    def add_task_queue(self, queue: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Obey remote control (Flower has a button for it), except for a queue without a gate."""
        if queue in self._gate.queues:
            super().add_task_queue(queue, *args, **kwargs)
        else:
            # Not the name: it came over the network and may be anything.
            log.warning("queue.refused")

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:  # noqa: ANN401
        """Make the handler, once a connection, and keep it for `_set_aside`."""
        handle: Callable[[Any], None] = super().create_task_handler(*args, **kwargs)
        self._handle = handle
        return handle

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ANN401, ARG002
        """Keep a message that is neither protocol 1 nor 2; Celery drops it."""
        self._set_aside(message, "on_unknown_message")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002
        """Keep a message whose task is unknown here; Celery drops it."""
        self._set_aside(message, "on_unknown_task")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002
        """Keep a message after InvalidTaskError or ContentDisallowed; Celery drops it."""
        self._set_aside(message, "on_invalid_task")

    def on_decode_error(self, message: Any, exc: Exception) -> None:  # noqa: ANN401
        """Keep an unreadable message; Celery drops it. Remote control is dropped here, too."""
        if isinstance(getattr(message, "_raw", None), Admitted):
            self._set_aside(message, "on_decode_error")
            return
        log.warning("control_message.dropped", error=type(exc).__name__)
        message.ack()

    def _set_aside(self, message: Any, detail: str) -> None:  # noqa: ANN401
        """Deliver a call of `dead_letters.keep` in place of the message."""
        raw = message._raw  # noqa: SLF001
        queue = raw["properties"]["delivery_info"]["routing_key"]
        if raw["headers"]["task"] == DEAD_LETTER_TASK:
            # Even that was refused. Left unacked, it comes back after the visibility timeout.
            log.error("dead_letter.refused", queue=queue, handler=detail)
            return
        bare = json.dumps(raw).encode()
        rejected = RejectedEntry(raw=bare, reason=Reason.NOT_UNDERSTOOD, detail=detail, queue=queue)
        substitute = self._gate.set_aside(rejected)
        # The same tag: acknowledging the substitute acknowledges the message.
        substitute["properties"]["delivery_tag"] = message.delivery_tag
        self._handle(GatedMessage(substitute, channel=message.channel))
