"""The fence: a worker whose lease was taken over writes nothing.

Every transaction that writes for a channel user starts here. `settle.py` and `fast_path.py` check
the same token inside their one statement instead.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

from worker.domain.errors import StaleLeaseError
from worker.domain.ids import WorkerId
from worker.domain.messages import ChannelAddress
from worker.domain.routing import Routing
from worker.domain.turns.records import Lease
from worker.store.consents import address_hash
from worker.store.database import Database, Store
from worker.store.sql import Connection, sql

# A dead process stops its heartbeat within seconds; its leases may last for minutes.
FREE = """(u.lease_owner IS NULL OR u.lease_until < service_now() OR NOT EXISTS (
      SELECT FROM workers w WHERE w.id = u.lease_owner AND w.alive_until >= service_now()))"""
"""Whether nobody holds the channel user `u`."""
DUE_AT = """coalesce(u.due_at, CASE WHEN u.open_turn_id IS NOT NULL THEN service_now() END)"""
"""When the next step of the channel user `u` may start: the fast path leaves `due_at` NULL."""
# `greatest` ignores NULL: without `:lease` the lease ends when it ended before. From here on the
# user is found by `due_at`, and not only by an intent of the fast path.
_CHECK = sql(f"""
UPDATE channel_users u SET due_at = {DUE_AT},
    lease_until = greatest(lease_until, service_now() + CAST(:lease AS interval))
WHERE id = :user_id AND lease_token = :token RETURNING id
""")
# FOR UPDATE, not the weaker lock of an UPDATE: it also stops inserts that refer to the row, so that
# no message arrives between the deletion of the messages and that of their user.
_LOCK = sql("""
SELECT id FROM channel_users WHERE id = :user_id AND lease_token = :token FOR UPDATE
""")


def check_lease(
    connection: Connection, lease: Lease, *, lease_for: timedelta | None, removes: bool = False
) -> None:
    """Lock the user's row, check the token and extend the lease; None = do not extend it.

    `removes`: also let nothing new refer to the row. Raises `StaleLeaseError`.
    """
    values = {"user_id": lease.user_id, "token": lease.token, "lease": lease_for}
    if connection.execute(_LOCK if removes else _CHECK, values).one_or_none() is None:
        raise StaleLeaseError("another worker has just taken this channel user: try again")


class LeasedStore(Store):
    """Base of the stores that work on leased channel users."""

    def __init__(
        self,
        database: Database,
        *,
        worker_id: WorkerId,
        routing: Callable[[], Routing],
        lease_s: float,
        installation: UUID,
    ) -> None:
        """`routing` returns the current one: read it once for each step of a turn."""
        super().__init__(database)
        self._worker_id = worker_id
        self._routing = routing
        self._lease = timedelta(seconds=lease_s)
        self._installation = installation

    def _address_hash(self, who: ChannelAddress) -> bytes:
        """Return the name of a channel user's address in the ledger of opt-outs."""
        scope = self._routing().channel(who.channel).scope
        return address_hash(self._database.consent_key, scope, who.address)

    @contextmanager
    def _leased(self, lease: Lease) -> Iterator[Connection]:
        """Open a transaction that checks the lease and extends it. Raises `StaleLeaseError`."""
        with self._database.transaction() as connection:
            check_lease(connection, lease, lease_for=self._lease)
            yield connection
