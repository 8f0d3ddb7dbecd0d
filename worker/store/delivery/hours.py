"""Replies that wait for the hours in which their channel user may be written to.

    sending ──wait──▶ pending, due at the opening, and so are all that wait behind it
    a newer reply that is due ──▶ the oldest is claimed again: the person may be awake

A wait costs no attempt, and the age of a reply counts from its end.
"""

from datetime import datetime
from typing import Final

from worker.domain.deliveries import ClaimedDelivery
from worker.domain.errors import StaleLeaseError
from worker.store.database import Store
from worker.store.sql import sql

PARKED: Final = "coalesce({0}.counts_from > service_now(), false)"
"""Whether a delivery, named `{0}`, waits for the hours of its person."""
_WAIT = sql("""
WITH head AS (
    UPDATE deliveries SET state = 'pending', due_at = :until, counts_from = :until,
        lease_until = NULL, permit_at = NULL, attempts = attempts - 1,
        first_attempt_at = CASE WHEN attempts > 1 THEN first_attempt_at END
    WHERE id = :id AND lease_token = :token
    RETURNING id, channel_user_id
), others AS (
    UPDATE deliveries d SET due_at = :until, counts_from = :until, permit_at = NULL
    FROM head WHERE d.channel_user_id = head.channel_user_id AND d.id <> head.id
      AND d.state = 'pending' AND d.due_at < :until
)
SELECT id FROM head
""")


class HoursStore(Store):
    """Waits for the hours of a person."""

    def wait(self, claimed: ClaimedDelivery, until: datetime) -> None:
        """Undo the start of an attempt: the user's replies wait. Raises `StaleLeaseError`."""
        values = {"id": claimed.reply.delivery_id, "token": claimed.token, "until": until}
        if self._row(_WAIT, values) is None:
            raise StaleLeaseError("another worker has taken this delivery over")
