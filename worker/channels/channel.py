"""What a way out is: one method, and whether it recognises a repetition."""

from typing import Protocol

from worker.domain.deliveries import DeliveryOutcome, OutgoingReply


class Channel(Protocol):
    """A way out for replies. One instance serves all threads."""

    @property
    def takes_key(self) -> bool:
        """Whether the other side drops a second reply with the same idempotency key."""

    def deliver(self, reply: OutgoingReply) -> DeliveryOutcome:
        """Hand one reply over, within `DEADLINE_S`; never raises for the net.

        An exception is taken for an unclear outcome.
        """


DEADLINE_S = 15.0
"""The longest that one attempt may take; its lease lasts a little longer."""
