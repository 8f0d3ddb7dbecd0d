"""A channel's way out: one method, and whether the receiver recognises a repetition."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, runtime_checkable

from worker.domain.deliveries import DeliveryOutcome, OutgoingReply, Piece

DEADLINE_S: Final = 15.0
"""The longest that one attempt may take; its lease lasts a little longer."""


class Channel(Protocol):
    """A way out for replies. One instance serves all threads."""

    @property
    def takes_key(self) -> bool:
        """Whether the other side drops a second reply with the same idempotency key."""

    def deliver(self, reply: OutgoingReply) -> DeliveryOutcome:
        """Send one reply within `DEADLINE_S`; never raises for the network.

        An exception counts as an unclear outcome.
        """


@runtime_checkable
class ComposingChannel(Channel, Protocol):
    """Its attempts send what was written once, and is stored: `OutgoingReply.request`."""

    def compose(self, reply: OutgoingReply) -> Sequence[Piece]:
        """Return the messages of a reply, in order; at least one."""


@runtime_checkable
class TwoPhaseChannel(Channel, Protocol):
    """It knows the point before which the other side certainly has nothing."""

    @property
    def answer_s(self) -> float:
        """The longest that one attempt takes after that point."""

    def deliver_in_phases(
        self, reply: OutgoingReply, before_end: Callable[[], None]
    ) -> DeliveryOutcome:
        """Deliver, as `Channel.deliver` does; `before_end` is called at that point.

        What `before_end` raises is raised, and the other side has nothing.
        """


def reply_document(reply: OutgoingReply) -> dict[str, Any]:
    """Return the reply, the refusal or the hand-over as its receiver gets it: JSON, version 1."""
    about = {"version": 1, "idempotency_key": str(reply.idempotency_key)}
    if (refusal := reply.refusal) is not None:
        return {
            **about,
            "refused": {"reason": refusal.reason, "detail": refusal.detail},
            "dead_letter": refusal.dead_letter,
            "task_id": None if refusal.task_id is None else str(refusal.task_id),
            "queue": refusal.queue,
            **(refusal.names or {}),
        }
    if (notice := reply.hand_over) is not None:
        return {
            **about,
            "handed_over": {"reason": notice.reason},
            "hand_over": notice.id,
            "user_id": notice.user_id,
            **notice.who.as_producers_name_it(),
            "look": f"worker messages {notice.user_id} --texts",
            **({} if notice.link is None else {"link": notice.link}),
        }
    return {
        **about,
        **reply.to.as_producers_name_it(),
        "text": reply.text,
        "message_ids": list(reply.message_ids),
        "metadata": dict(reply.metadata),
    }
