"""A channel's way out: one method, and whether the receiver recognises a repetition."""

from typing import Any, Final, Protocol

from worker.domain.deliveries import DeliveryOutcome, OutgoingReply, Refusal

DEADLINE_S: Final = 15.0
"""The longest that one attempt may take; its lease lasts a little longer."""


class Channel(Protocol):
    """A way out for replies. One instance serves all threads."""

    @property
    def takes_key(self) -> bool:
        """Whether the other side drops a second reply with the same idempotency key."""

    def deliver(self, reply: OutgoingReply) -> DeliveryOutcome:
        """Hand one reply over within `DEADLINE_S`; never raises for the network.

        An exception counts as an unclear outcome.
        """


def reply_document(reply: OutgoingReply) -> dict[str, Any]:
    """Return the reply or the refusal as producers get it: JSON, version 1."""
    if reply.refusal is not None:
        return _refusal_document(reply, reply.refusal)
    return {
        "version": 1,
        "idempotency_key": str(reply.idempotency_key),
        **reply.to.as_producers_name_it(),
        "text": reply.text,
        "message_ids": list(reply.message_ids),
        "metadata": dict(reply.metadata),
    }


def _refusal_document(reply: OutgoingReply, refusal: Refusal) -> dict[str, Any]:
    return {
        "version": 1,
        "idempotency_key": str(reply.idempotency_key),
        "refused": {"reason": refusal.reason, "detail": refusal.detail},
        "dead_letter": refusal.dead_letter,
        "task_id": None if refusal.task_id is None else str(refusal.task_id),
        "queue": refusal.queue,
        **(refusal.names or {}),
    }
