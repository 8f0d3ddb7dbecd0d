"""The fence: a worker whose lease was taken over writes nothing.

Every transaction that writes for a channel user starts here. `settle.py` and `fast_path.py` check
the same token inside their one statement instead.
"""

from datetime import timedelta

from worker.domain.errors import StaleLeaseError
from worker.domain.turns.records import Lease
from worker.store.sql import Connection, Statement, sql

# `greatest` ignores NULL: without `:lease` the lease ends when it ended before.
_CHECK = sql("""
UPDATE channel_users
SET lease_until = greatest(lease_until, service_now() + CAST(:lease AS interval))
WHERE id = :user_id AND lease_token = :token RETURNING id
""")
# FOR UPDATE, not the weaker lock of an UPDATE: it also stops inserts that refer to the row, so that
# no message arrives between the deletion of the messages and that of their user.
_LOCK = sql("""
SELECT id FROM channel_users WHERE id = :user_id AND lease_token = :token FOR UPDATE
""")


def check_lease(connection: Connection, lease: Lease, *, lease_for: timedelta | None) -> None:
    """Lock the user's row, check the token and extend the lease; None = do not extend it.

    Raises `StaleLeaseError`.
    """
    _fence(connection, _CHECK, lease, lease_for)


def lock_for_removal(connection: Connection, lease: Lease) -> None:
    """Check the token and let nobody refer to the user's row. Raises `StaleLeaseError`."""
    _fence(connection, _LOCK, lease, None)


def _fence(
    connection: Connection, statement: Statement, lease: Lease, lease_for: timedelta | None
) -> None:
    values = {"user_id": lease.user_id, "token": lease.token, "lease": lease_for}
    if connection.execute(statement, values).one_or_none() is None:
        raise StaleLeaseError("another worker has just taken this channel user: try again")
