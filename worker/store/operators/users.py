"""Finds, adds, pauses and resumes channel users."""

from dataclasses import asdict

from worker.domain.ids import ChannelUserId, TelnyxConversationId
from worker.domain.messages import ChannelAddress
from worker.domain.people.hand_over import RESUMED
from worker.store.database import Store
from worker.store.sql import sql

_FIND = sql("""
SELECT id FROM channel_users
WHERE (CAST(:id AS bigint) IS NULL OR id = :id)
  AND (CAST(:channel AS text) IS NULL OR channel = :channel)
  AND (CAST(:address AS text) IS NULL OR address = :address)
  AND (CAST(:recipient AS text) IS NULL OR recipient = :recipient)
ORDER BY id LIMIT 10
""")
_MEET = sql("""
INSERT INTO channel_users (channel, recipient, address, thread)
VALUES (:channel, :recipient, :address, :thread)
ON CONFLICT (channel, recipient, address, thread) DO NOTHING
""")
# A transaction that holds their row may be handing them over: the next statement has to see it.
_LOCK = sql("SELECT FROM channel_users WHERE id = :id FOR UPDATE")
_SET_PAUSED = sql("""
WITH ended AS (
    UPDATE hand_overs SET ended_at = service_now()
    WHERE channel_user_id = :id AND ended_at IS NULL AND NOT :paused RETURNING id
)
UPDATE channel_users SET pause_reason = NULL,
    paused_at = CASE WHEN :paused THEN coalesce(paused_at, service_now()) END,
    note = CASE WHEN EXISTS (SELECT FROM ended)
        THEN concat_ws(chr(10), note, CAST(:note AS text)) ELSE note END
WHERE id = :id
""")
# One of our staff has written first, or takes over: their name is in no message yet, perhaps.
_PAUSE_FOR_STAFF = sql("""
INSERT INTO channel_users AS u (channel, recipient, address, thread, paused_at, pause_reason)
VALUES (:channel, :recipient, :address, :thread, service_now(), 'echo')
ON CONFLICT (channel, recipient, address, thread) DO UPDATE SET
    paused_at = service_now(), pause_reason = 'echo' WHERE u.paused_at IS NULL
""")
_OPEN = sql("""
SELECT telnyx_conversation_id FROM conversations
WHERE channel_user_id = :id AND closed_at IS NULL AND telnyx_conversation_id IS NOT NULL
""")


class UserStore(Store):
    """Channel users."""

    def find(
        self,
        *,
        user_id: int | None = None,
        channel: str | None = None,
        address: str | None = None,
        recipient: str | None = None,
    ) -> tuple[ChannelUserId, ...]:
        """Return the channel users that match all given arguments, at most ten."""
        values = {"id": user_id, "channel": channel, "address": address, "recipient": recipient}
        return tuple(ChannelUserId(row.id) for row in self._rows(_FIND, values))

    def meet(self, who: ChannelAddress) -> None:
        """Add a channel user who has not written yet."""
        self._change(_MEET, asdict(who))

    def set_paused(self, user_id: ChannelUserId, *, paused: bool) -> None:
        """Pause: nothing is answered, a reply on its way is withheld. Or answer new messages."""
        with self._database.transaction() as connection:
            connection.execute(_LOCK, {"id": user_id})
            values = {"id": user_id, "paused": paused, "note": RESUMED}
            connection.execute(_SET_PAUSED, values)

    def pause_for_staff(self, who: ChannelAddress) -> None:
        """Pause a user, known or not, to whom one of our staff has written past us."""
        self._change(_PAUSE_FOR_STAFF, asdict(who))

    def open_conversations(self, user_id: ChannelUserId) -> tuple[TelnyxConversationId, ...]:
        """Return the Telnyx conversations of the user's open mappings."""
        rows = self._rows(_OPEN, {"id": user_id})
        return tuple(TelnyxConversationId(row[0]) for row in rows)
