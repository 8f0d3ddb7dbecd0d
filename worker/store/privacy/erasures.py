"""Erasing one channel user: stopped first, so that nothing new begins, and removed at the end.

    stop ──▶ (whoever works on him ends; Telnyx and the queues are cleared) ──▶ remove ──▶ proof

Killed in between, he is stopped, his row is there, and everything can be done again. A message of
his that is accepted before `remove` takes his row goes with the rest; one after it finds nobody of
that address, and is the first of a new channel user.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from worker.domain.errors import NotFoundError
from worker.domain.ids import ChannelUserId, TelnyxConversationId
from worker.domain.messages import ChannelAddress
from worker.domain.turns.records import Lease
from worker.store.database import Database
from worker.store.privacy.retention import WAIT
from worker.store.rows import address_of
from worker.store.sql import Connection, sql
from worker.store.turns.lease import lock_for_removal

_WHO = sql("SELECT channel, recipient, address, thread FROM channel_users WHERE id = :user_id")
# What stops a diverged user stops him: no sweep finds him, no claim takes him.
_STOP = sql("""
UPDATE channel_users SET diverged_at = coalesce(diverged_at, service_now())
WHERE id = :user_id RETURNING id
""")
_REQUEST = sql("""
INSERT INTO erasures (channel_user_id, requested_at) VALUES (:user_id, service_now())
ON CONFLICT (channel_user_id) WHERE finished_at IS NULL DO NOTHING
""")
# An attempt that is under way is left to end. The token grows: one whose lease is over may still
# end, and must not bring the delivery back.
_CANCEL = sql("""
UPDATE deliveries SET state = 'cancelled', due_at = NULL, lease_until = NULL,
    lease_token = lease_token + 1, finished_at = service_now()
WHERE channel_user_id = :user_id AND state IN ('pending', 'sending')
  AND (lease_until IS NULL OR lease_until < service_now())
""")
_DELIVERING = sql("""
SELECT EXISTS (SELECT FROM deliveries
    WHERE channel_user_id = :user_id AND state IN ('pending', 'sending'))
""")
_AT_TELNYX = sql("""
SELECT telnyx_conversation_id, agent FROM conversations WHERE channel_user_id = :user_id ORDER BY id
""")
_WORKERS = sql("SELECT EXISTS (SELECT FROM workers WHERE alive_until >= service_now())")
# Deleting a conversation and the user has Postgres look through `calls` and `deliveries`: they have
# no index for it, which every message would pay for.
_PATIENCE = sql("SELECT set_config('statement_timeout', '10min', true)")
# As it goes: a run that is killed leaves what it has removed to the proof of the one that finishes.
_NOTE = sql("""
UPDATE erasures SET removed = removed || jsonb_build_object(
    CAST(:name AS text), coalesce(CAST(removed->>CAST(:name AS text) AS bigint), 0) + :number)
WHERE channel_user_id = :user_id AND finished_at IS NULL
""")
_FINISH = sql("""
UPDATE erasures SET finished_at = service_now()
WHERE channel_user_id = :user_id AND finished_at IS NULL RETURNING removed
""")

_TURNS = "(SELECT id FROM turns WHERE channel_user_id = :user_id)"
_REPLIES = f"(SELECT id FROM replies WHERE turn_id IN {_TURNS})"
_HIS: dict[str, str] = {
    "dead_letters": f"""id IN (
        SELECT l.id FROM messages m JOIN dead_letters l ON l.message_row_id = m.id
        WHERE m.channel_user_id = :user_id
        UNION ALL
        SELECT l.id FROM deliveries d JOIN dead_letters l ON l.delivery_id = d.id
        WHERE d.reply_id IN {_REPLIES})""",
    "deliveries": f"reply_id IN {_REPLIES}",
    "replies": f"turn_id IN {_TURNS}",
    "tool_calls": f"turn_id IN {_TURNS}",
    "calls": f"turn_id IN {_TURNS}",
    "messages": "channel_user_id = :user_id",
    "turns": "channel_user_id = :user_id",
    "conversations": "channel_user_id = :user_id",
    "attempt_log": "channel_user_id = :user_id",
    "channel_users": "id = :user_id",
}
"""Which rows of which tables are his, in an order in which they can be deleted."""
_COUNT = sql(
    "SELECT "
    + ", ".join(
        f"(SELECT count(*) FROM {table} WHERE {his}) AS {table}" for table, his in _HIS.items()
    )
)
_DELETE = {
    table: sql(f"""
        WITH gone AS (DELETE FROM {table} WHERE {his} RETURNING 1) SELECT count(*) FROM gone""")
    for table, his in _HIS.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AtTelnyx:
    """What Telnyx may hold of a channel user, as far as we know."""

    conversations: tuple[TelnyxConversationId, ...]
    agents: frozenset[str]
    """Whose conversations there were."""


class ErasureStore:
    """Channel users that are to be forgotten."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def who(self, user_id: ChannelUserId) -> ChannelAddress:
        """Say who it is. Raises `NotFoundError`."""
        with self._database.statement() as connection:
            row = connection.execute(_WHO, {"user_id": user_id}).one_or_none()
        if row is None:
            raise NotFoundError("there is no such channel user")
        return address_of(row)

    def count(self, user_id: ChannelUserId) -> dict[str, int]:
        """Count the rows that are his, by table."""
        with self._database.statement() as connection:
            row = connection.execute(_COUNT, {"user_id": user_id}).one()
        return {table: int(getattr(row, table)) for table in _HIS}

    def stop(self, user_id: ChannelUserId) -> None:
        """Let nothing new begin for him, and write down that it was asked for. Twice is once."""
        with self._database.transaction() as connection:
            if connection.execute(_STOP, {"user_id": user_id}).one_or_none() is None:
                raise NotFoundError("there is no such channel user")
            connection.execute(_REQUEST, {"user_id": user_id})
            connection.execute(_CANCEL, {"user_id": user_id})

    def still_delivers(self, user_id: ChannelUserId) -> bool:
        """Let no further attempt at his replies begin; gives whether one is under way."""
        with self._database.transaction() as connection:
            connection.execute(_CANCEL, {"user_id": user_id})
            return bool(connection.execute(_DELIVERING, {"user_id": user_id}).scalar_one())

    def at_telnyx(self, user_id: ChannelUserId) -> AtTelnyx:
        """Give his conversations, closed ones too."""
        with self._database.statement() as connection:
            rows = connection.execute(_AT_TELNYX, {"user_id": user_id}).fetchall()
        known = (row.telnyx_conversation_id for row in rows)
        return AtTelnyx(
            conversations=tuple(TelnyxConversationId(one) for one in known if one is not None),
            agents=frozenset(row.agent for row in rows),
        )

    def workers_live(self) -> bool:
        """Whether any worker process is alive."""
        with self._database.statement() as connection:
            return bool(connection.execute(_WORKERS).scalar_one())

    def note(self, user_id: ChannelUserId, name: str, number: int) -> None:
        """Add to the proof what was removed elsewhere."""
        with self._database.transaction() as connection:
            _note(connection, user_id, name, number)

    def remove(self, lease: Lease) -> dict[str, int]:
        """Delete all his rows, and finish the proof; gives what is in it.

        Whoever writes to him meanwhile waits for the last transaction only, which finds but what
        came since. Raises `StaleLeaseError`.
        """
        for table in _DELETE:
            if table != "channel_users":
                with self._alone() as connection:
                    _delete(connection, table, lease.user_id)
        with self._alone() as connection:
            lock_for_removal(connection, lease)
            for table in _DELETE:
                _delete(connection, table, lease.user_id)
            row = connection.execute(_FINISH, {"user_id": lease.user_id}).one()
        return dict(row.removed)

    @contextmanager
    def _alone(self) -> Iterator[Connection]:
        """Open a transaction that may last, and in which retention locks none of the same rows."""
        with self._database.transaction() as connection:
            connection.execute(_PATIENCE)
            connection.execute(WAIT)
            yield connection


def _delete(connection: Connection, table: str, user_id: ChannelUserId) -> None:
    gone = connection.execute(_DELETE[table], {"user_id": user_id}).scalar_one()
    _note(connection, user_id, table, int(gone))


def _note(connection: Connection, user_id: ChannelUserId, name: str, number: int) -> None:
    if number:
        connection.execute(_NOTE, {"user_id": user_id, "name": name, "number": number})
