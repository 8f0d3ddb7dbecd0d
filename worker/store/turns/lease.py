"""The fence: a write of a worker whose lease was taken over does not happen."""

from datetime import timedelta

from worker.domain.errors import StaleLeaseError
from worker.domain.turns.records import Lease
from worker.store.sql import Connection, sql

_HOLD = sql("""
UPDATE channel_users SET lease_until = greatest(lease_until, service_now() + :lease)
WHERE id = :user_id AND lease_token = :token RETURNING id
""")


def check_lease(connection: Connection, lease: Lease, *, lease_for: timedelta) -> None:
    """Lock the user's row, check the token and extend the lease. Raises `StaleLeaseError`."""
    values = {"user_id": lease.user_id, "token": lease.token, "lease": lease_for}
    if connection.execute(_HOLD, values).one_or_none() is None:
        raise StaleLeaseError("another worker has taken this channel user over")
