"""Finding due work that nobody holds."""

from dataclasses import dataclass
from datetime import timedelta

from worker.domain.ids import ChannelUserId
from worker.store.database import Database
from worker.store.sql import sql

# `woken_at` marks the user as told about, so that the other sweepers leave him be for a while.
_PICK = sql("""
WITH free AS (
    SELECT u.id, u.due_at FROM channel_users u
    LEFT JOIN workers w ON w.id = u.lease_owner AND w.alive_until >= service_now()
    WHERE u.due_at <= service_now() AND u.diverged_at IS NULL
      AND (u.woken_at IS NULL OR u.woken_at < service_now() - :wake_ttl)
      AND (u.lease_owner IS NULL OR u.lease_until < service_now() OR w.id IS NULL)
    ORDER BY u.due_at LIMIT :limit
    FOR UPDATE OF u SKIP LOCKED
)
UPDATE channel_users SET woken_at = service_now() FROM free WHERE channel_users.id = free.id
RETURNING channel_users.id
""")
_NEXT = sql("""
SELECT extract(epoch FROM min(due_at) - service_now()) FROM channel_users
WHERE due_at > service_now()
""")
_FORGET_WAKE = sql("UPDATE channel_users SET woken_at = NULL WHERE id = :user_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """Who is due, and when the next one will be; None = nobody is waiting for a time."""

    due: tuple[ChannelUserId, ...]
    next_due_in_s: float | None


class SweepStore:
    """The net under every wake that got lost."""

    def __init__(self, database: Database, *, wake_ttl_s: float) -> None:
        self._database = database
        self._wake_ttl = timedelta(seconds=wake_ttl_s)

    def pick(self, *, limit: int) -> Swept:
        """Mark at most `limit` due users as woken and give them, the longest due first."""
        with self._database.statement() as connection:
            due: tuple[ChannelUserId, ...] = ()
            if limit > 0:
                values = {"limit": limit, "wake_ttl": self._wake_ttl}
                due = tuple(ChannelUserId(row[0]) for row in connection.execute(_PICK, values))
            next_due_in_s = connection.execute(_NEXT).scalar_one()
        return Swept(due=due, next_due_in_s=None if next_due_in_s is None else float(next_due_in_s))

    def forget_wake(self, user_id: ChannelUserId) -> None:
        """Let any sweeper wake this user again at once."""
        with self._database.statement() as connection:
            connection.execute(_FORGET_WAKE, {"user_id": user_id})
