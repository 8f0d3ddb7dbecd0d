"""A channel's way out: one method, and whether the receiver recognises a repetition."""

from typing import Any, Final, Protocol

from worker.domain.deliveries import DeliveryOutcome, OutgoingReply

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
    """Return the reply as producers get it: JSON, version 1."""
    return {
        "version": 1,
        "idempotency_key": str(reply.idempotency_key),
        **reply.to.as_producers_name_it(),
        "text": reply.text,
        "message_ids": list(reply.message_ids),
        "metadata": dict(reply.metadata),
    }
