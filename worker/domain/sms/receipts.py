"""Receipts: Telnyx's reports on a message that it took, in any order and more than once.

    queued < sending < sent < delivery_unconfirmed < delivered, failed < read

A receipt counts if it ranks above the one that is known. `delivered` and `failed` have one rank:
the first of them stands.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from worker.domain.ids import DeliveryId

FAILED: Final = frozenset({"failed", "expired", "sending_failed", "delivery_failed", "bounced"})
_RANKS: Final = {
    "queued": 1,
    "sending": 2,
    "sent": 3,
    "delivery_unconfirmed": 4,
    "delivered": 5,
    **dict.fromkeys(FAILED, 5),
    "read": 6,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One report."""

    key: UUID | None = None
    """The delivery's idempotency key, of the webhook's path; None = only `provider_id` is known."""
    provider_id: str | None = None
    """Telnyx's id of the message."""
    delivery: DeliveryId | None = None
    """Of a mail that came back; then neither of both is known."""
    status: str
    """Telnyx's word. One that is not in the table above counts for nothing."""
    error: str | None = None
    """Telnyx's code of the failure."""
    parts: int | None = None
    repeatable: bool = False
    """It failed in a way after which another message, with another key, may succeed."""

    @property
    def fails(self) -> bool:
        """Whether the message did not arrive."""
        return self.status in FAILED


def outranked(status: str) -> tuple[str, ...]:
    """Return the statuses that this one replaces; empty for an unknown one."""
    rank = _RANKS.get(status, 0)
    return tuple(one for one, other in _RANKS.items() if other < rank)


def is_known(status: str) -> bool:
    """Return whether the table has this status."""
    return status in _RANKS
