"""Finds, pauses and resumes channel users."""

from worker.domain.ids import ChannelUserId, TelnyxConversationId
from worker.store.database import Database
from worker.store.sql import sql

_FIND = sql("""
SELECT id FROM channel_users
WHERE (CAST(:id AS bigint) IS NULL OR id = :id)
  AND (CAST(:channel AS text) IS NULL OR channel = :channel)
  AND (CAST(:address AS text) IS NULL OR address = :address)
ORDER BY id LIMIT :limit
""")
_PAUSE = sql("""
UPDATE channel_users SET paused_at = coalesce(paused_at, service_now()) WHERE id = :id
""")
_RESUME = sql("UPDATE channel_users SET paused_at = NULL WHERE id = :id")
_OPEN = sql("""
SELECT telnyx_conversation_id FROM conversations
WHERE channel_user_id = :id AND closed_at IS NULL AND telnyx_conversation_id IS NOT NULL
""")


class UserStore:
    """Channel users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(
        self,
        *,
        user_id: int | None = None,
        channel: str | None = None,
        address: str | None = None,
        limit: int = 10,
    ) -> tuple[ChannelUserId, ...]:
        """Return the channel users that match all given arguments, at most `limit`."""
        values = {"id": user_id, "channel": channel, "address": address, "limit": limit}
        with self._database.statement() as connection:
            return tuple(ChannelUserId(row.id) for row in connection.execute(_FIND, values))

    def pause(self, user_id: ChannelUserId) -> None:
        """Pause: nothing is answered, and a reply on its way is withheld."""
        with self._database.statement() as connection:
            connection.execute(_PAUSE, {"id": user_id})

    def resume(self, user_id: ChannelUserId) -> None:
        """Resume: new messages are answered again."""
        with self._database.statement() as connection:
            connection.execute(_RESUME, {"id": user_id})

    def open_conversations(self, user_id: ChannelUserId) -> tuple[TelnyxConversationId, ...]:
        """Return the Telnyx conversations of the user's open mappings."""
        with self._database.statement() as connection:
            rows = connection.execute(_OPEN, {"id": user_id})
            return tuple(TelnyxConversationId(row[0]) for row in rows)
