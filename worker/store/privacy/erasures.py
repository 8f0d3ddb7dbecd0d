"""Erases one channel user: stopped first, so that nothing new starts, and removed at the end.

    stop ──▶ (running work ends; Telnyx and the queues are cleared) ──▶ remove ──▶ proof

If it is interrupted, the user is stopped, the row still exists, and every step can be repeated. A
message accepted before `remove` deletes the user's row goes with the rest; a later one is the first
of a new channel user.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from worker.domain.errors import NotFoundError
from worker.domain.ids import ChannelUserId, TelnyxConversationId
from worker.domain.messages import ChannelAddress
from worker.domain.turns.records import Lease
from worker.store.consents import address_hash
from worker.store.locks import wait_lock
from worker.store.rows import address_of
from worker.store.sql import Connection, sql
from worker.store.turns.lease import check_lease
from worker.store.workers import LivingWorkers

_WHO = sql("SELECT channel, recipient, address, thread FROM channel_users WHERE id = :user_id")
# Like a divergence: no sweep finds the user, and no claim takes them.
_STOP = sql("""
UPDATE channel_users SET diverged_at = coalesce(diverged_at, service_now())
WHERE id = :user_id RETURNING id
""")
_REQUEST = sql("""
INSERT INTO erasures (channel_user_id, requested_at) VALUES (:user_id, service_now())
ON CONFLICT (channel_user_id) WHERE finished_at IS NULL DO NOTHING
""")
# A running attempt may end. The token grows, so that an attempt whose lease is over cannot make the
# delivery pending again.
_CANCEL = sql("""
UPDATE deliveries SET state = 'cancelled', due_at = NULL, lease_until = NULL,
    lease_token = lease_token + 1, finished_at = service_now()
WHERE (channel_user_id = :user_id
        OR id IN (SELECT notice_id FROM hand_overs h WHERE h.channel_user_id = :user_id))
  AND state IN ('pending', 'sending') AND (lease_until IS NULL OR lease_until < service_now())
""")
_DELIVERING = sql("""
SELECT EXISTS (SELECT FROM deliveries
    WHERE channel_user_id = :user_id AND state IN ('pending', 'sending'))
""")
_AT_TELNYX = sql("""
SELECT telnyx_conversation_id, agent FROM conversations WHERE channel_user_id = :user_id ORDER BY id
""")
# A user may have any number of rows.
_PATIENCE = sql("SELECT set_config('statement_timeout', '10min', true)")
# Counted step by step, so that the proof includes the removals of a run that was killed.
_NOTE = sql("""
UPDATE erasures SET removed = removed || jsonb_build_object(
    CAST(:name AS text), coalesce(CAST(removed->>CAST(:name AS text) AS bigint), 0) + :number)
WHERE channel_user_id = :user_id AND finished_at IS NULL
""")
# The hash stays, so that nobody writes to a person who has opted out and was erased.
_KNOWN = sql("""
SELECT count(*) FROM consents WHERE address_hash = :address_hash AND address IS NOT NULL
""")
_FORGET = sql("""
UPDATE consents SET address = NULL WHERE address_hash = :address_hash AND address IS NOT NULL
""")
_FINISH = sql("""
UPDATE erasures SET finished_at = service_now()
WHERE channel_user_id = :user_id AND finished_at IS NULL RETURNING removed
""")

_TURNS = "(SELECT id FROM turns WHERE channel_user_id = :user_id)"
_REPLIES = f"(SELECT id FROM replies WHERE turn_id IN {_TURNS})"
_PIECES = f"""(SELECT p.id FROM deliveries f JOIN deliveries p ON p.id = f.id OR p.part_of = f.id
    WHERE f.reply_id IN {_REPLIES})"""
# Also those that made nobody a channel user: bounces, and what machines wrote from this address.
MAILS = """(SELECT m.id FROM channel_users u
    JOIN mails m ON m.channel = u.channel AND m.address = u.address
    WHERE u.id = :user_id AND ((m.recipient, m.thread) = (u.recipient, u.thread)
        OR (m.verdict IS NOT NULL AND NOT EXISTS (SELECT FROM channel_users other
            WHERE (other.channel, other.recipient, other.address, other.thread)
                = (m.channel, m.recipient, m.address, m.thread)))))"""
_ROWS: dict[str, str] = {
    "dead_letters": f"""id IN (
        SELECT l.id FROM messages m JOIN dead_letters l ON l.message_row_id = m.id
        WHERE m.channel_user_id = :user_id
        UNION ALL
        SELECT id FROM dead_letters WHERE delivery_id IN {_PIECES})""",
    "mails": f"id IN {MAILS} OR delivery_id IN {_PIECES}",
    "hand_overs": "channel_user_id = :user_id",
    "disclosures": "channel_user_id = :user_id",
    "deliveries": f"id IN {_PIECES}",
    "replies": f"turn_id IN {_TURNS}",
    "tool_calls": f"turn_id IN {_TURNS}",
    "calls": f"turn_id IN {_TURNS}",
    "messages": "channel_user_id = :user_id",
    "turns": "channel_user_id = :user_id",
    "conversations": "channel_user_id = :user_id",
    "attempt_log": "channel_user_id = :user_id",
    "channel_users": "id = :user_id",
}
"""The rows of a channel user by table, in an order in which they can be deleted."""
_COUNT = sql(
    "SELECT "
    + ", ".join(
        f"(SELECT count(*) FROM {table} WHERE {rows}) AS {table}" for table, rows in _ROWS.items()
    )
)
_DELETE = {table: sql(f"DELETE FROM {table} WHERE {rows}") for table, rows in _ROWS.items()}


class ErasureStore(LivingWorkers):
    """Channel users that are being erased."""

    def who(self, user_id: ChannelUserId) -> ChannelAddress:
        """Return the address of a channel user. Raises `NotFoundError`."""
        row = self._row(_WHO, {"user_id": user_id})
        if row is None:
            raise NotFoundError("there is no such channel user")
        return address_of(row)

    def count(self, user_id: ChannelUserId, scope: str) -> dict[str, int]:
        """Count the user's rows by table; `scope`: that of their opt-outs."""
        known = self._rows(_KNOWN, self._hashed(user_id, scope))[0][0]
        rows = dict(self._rows(_COUNT, {"user_id": user_id})[0]._asdict())
        return rows | {"consent_addresses": known}

    def _hashed(self, user_id: ChannelUserId, scope: str) -> dict[str, object]:
        address = self.who(user_id).address
        return {"address_hash": address_hash(self._database.consent_key, scope, address)}

    def stop(self, user_id: ChannelUserId) -> None:
        """Let nothing new start for the user, and record the request. Safe to repeat."""
        with self._database.transaction() as connection:
            if connection.execute(_STOP, {"user_id": user_id}).one_or_none() is None:
                raise NotFoundError("there is no such channel user")
            connection.execute(_REQUEST, {"user_id": user_id})
            connection.execute(_CANCEL, {"user_id": user_id})

    def still_delivers(self, user_id: ChannelUserId) -> bool:
        """Cancel the user's deliveries; return whether an attempt at one is running."""
        with self._database.transaction() as connection:
            connection.execute(_CANCEL, {"user_id": user_id})
            return bool(connection.execute(_DELIVERING, {"user_id": user_id}).scalar_one())

    def at_telnyx(self, user_id: ChannelUserId) -> tuple[list[TelnyxConversationId], set[str]]:
        """Return the user's conversations at Telnyx, also closed ones, and all their agents."""
        rows = self._rows(_AT_TELNYX, {"user_id": user_id})
        return [one for one, _ in rows if one is not None], {agent for _, agent in rows}

    def note(self, user_id: ChannelUserId, name: str, number: int) -> None:
        """Add a removal elsewhere to the proof."""
        with self._statement() as connection:
            _note(connection, user_id, name, number)

    def remove(self, lease: Lease, scope: str) -> dict[str, int]:
        """Delete all rows of the user, finish the proof and return it. Raises `StaleLeaseError`.

        Of their opt-outs (in this `scope`) only the address goes.
        Each table has a transaction of its own first: a message that arrives meanwhile waits only
        for the last one, which finds no more than the rows that were added since.
        """
        for table in _DELETE:
            if table != "channel_users":
                with self._alone() as connection:
                    _delete(connection, table, lease.user_id)
        hashed = self._hashed(lease.user_id, scope)
        with self._alone() as connection:
            check_lease(connection, lease, lease_for=None, removes=True)
            gone = connection.execute(_FORGET, hashed).rowcount
            _note(connection, lease.user_id, "consent_addresses", gone)
            for table in _DELETE:
                _delete(connection, table, lease.user_id)
            row = connection.execute(_FINISH, {"user_id": lease.user_id}).one()
        return dict(row.removed)

    @contextmanager
    def _alone(self) -> Iterator[Connection]:
        """Open a transaction that may take long, with retention locked out: both delete rows."""
        with self._database.transaction() as connection:
            connection.execute(_PATIENCE)
            wait_lock(connection, "retention")
            yield connection


def _delete(connection: Connection, table: str, user_id: ChannelUserId) -> None:
    gone = connection.execute(_DELETE[table], {"user_id": user_id}).rowcount
    _note(connection, user_id, table, gone)


def _note(connection: Connection, user_id: ChannelUserId, name: str, number: int) -> None:
    if number:
        connection.execute(_NOTE, {"user_id": user_id, "name": name, "number": number})
