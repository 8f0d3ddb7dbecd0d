"""Delivers as a Celery task of the producer, by name, on the producer's queue."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from worker.channels.channel import reply_document
from worker.domain.deliveries import DeliveryOutcome, OutgoingReply, Sent, Unclear
from worker.domain.errors import BrokerAwayError


@dataclass(frozen=True, kw_only=True)
class TaskChannel:
    """Sends `reply_document` as the task's one keyword argument.

    Its name is `reply`, `refusal` or `hand_over`.

    The task's id is the idempotency key: a publish whose answer was lost is repeated under the same
    id, and the producer drops an id that it has seen.
    """

    publish: Callable[[str, str, str, dict[str, Any]], None]
    """Takes task name, queue, task id and kwargs; raises `BrokerAwayError`."""
    task: str
    queue: str
    takes_key: ClassVar[bool] = True
    """The task id is the key."""

    def deliver(self, reply: OutgoingReply) -> DeliveryOutcome:
        """Publish the task."""
        name = "refusal" if reply.refusal else "hand_over" if reply.hand_over else "reply"
        try:
            self.publish(
                self.task, self.queue, str(reply.idempotency_key), {name: reply_document(reply)}
            )
        except BrokerAwayError as error:
            return Unclear(reason=str(error))
        return Sent(provider_id=str(reply.idempotency_key))
