"""One person's thread as our staff read it: what they wrote and what they got. Reads only."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from worker.domain.ids import ChannelUserId
from worker.store.database import Store
from worker.store.rows import IS_DIVERGED, IS_ERASING
from worker.store.sql import Row, sql

PAGE: Final = 40
LISTED: Final = 20
"""How many channel users or dead letters a list shows."""

_PERSON: Final = sql(f"""
SELECT u.id, u.channel, u.recipient, u.address, u.thread, u.agent, u.created_at, u.paused_at,
    u.pause_reason, u.diverged_at, u.due_at, service_now() AS now,
    {IS_ERASING} AS erasing, h.reason AS handed_over,
    (SELECT c.arguments FROM tool_calls c WHERE c.turn_id = h.turn_id AND c.name = 'hand_over'
     ORDER BY c.id DESC LIMIT 1) AS asked
FROM channel_users u LEFT JOIN LATERAL (
    SELECT reason, turn_id FROM hand_overs WHERE channel_user_id = u.id AND ended_at IS NULL
    ORDER BY id DESC LIMIT 1) AS h ON true
WHERE u.id = :user_id
""")
# Ties: a text of the service has the time of the message that it answers.
_ENTRIES: Final = sql("""
SELECT * FROM (
    (SELECT m.id AS message, CAST(NULL AS bigint) AS reply, CAST(NULL AS text) AS source,
        m.accepted_at AS at, m.envelope ->> 'text' AS text, m.redacted_at IS NOT NULL AS redacted,
        coalesce(m.outcome, m.state) AS state, m.agent,
        CASE WHEN jsonb_typeof(m.envelope -> 'attachments') = 'array'
            THEN jsonb_path_query_array(m.envelope, '$.attachments[*].content_type') END AS files,
        CAST(NULL AS text) AS receipt
    FROM messages m WHERE m.channel_user_id = :user_id
      AND (CAST(:before AS timestamptz) IS NULL OR m.accepted_at < :before)
    ORDER BY m.seq DESC LIMIT :limit)
    UNION ALL
    (SELECT (SELECT min(m.id) FROM messages m WHERE m.turn_id = t.id), r.id, r.source,
        r.created_at, r.text, t.redacted_at IS NOT NULL, d.state, t.agent, NULL, d.receipt
    FROM turns t JOIN replies r ON r.turn_id = t.id LEFT JOIN deliveries d ON d.reply_id = r.id
    WHERE t.channel_user_id = :user_id
      AND (CAST(:before AS timestamptz) IS NULL OR r.created_at < :before)
    ORDER BY t.id DESC LIMIT :limit)
) AS entries ORDER BY at DESC FETCH FIRST :limit ROWS WITH TIES
""")
_NAMED: Final = sql("""
SELECT id, channel, recipient, address, thread FROM channel_users WHERE id = ANY(:ids)
""")
_PAUSED: Final = sql("""
SELECT u.id, u.channel, u.address, u.paused_at AS since, h.reason AS handed_over,
    coalesce(u.pause_reason, 'operator') AS reason,
    count(*) OVER (PARTITION BY h.reason IS NULL) AS all_of_kind
FROM channel_users u LEFT JOIN LATERAL (
    SELECT reason FROM hand_overs WHERE channel_user_id = u.id AND ended_at IS NULL
    ORDER BY id DESC LIMIT 1) AS h ON true
WHERE u.paused_at IS NOT NULL ORDER BY h.reason IS NULL, u.paused_at LIMIT :limit
""")
_DIVERGED: Final = sql(f"""
SELECT id, channel, address, diverged_at AS since, count(*) OVER () AS all_of_kind
FROM channel_users u WHERE {IS_DIVERGED}
ORDER BY diverged_at LIMIT :limit
""")


class ThreadStore(Store):
    """Persons, with their addresses and texts."""

    def person(self, user_id: ChannelUserId) -> Row | None:
        """Return the channel user; None = there is none."""
        return self._row(_PERSON, {"user_id": user_id})

    def entries(self, user_id: ChannelUserId, *, before: datetime | None = None) -> Sequence[Row]:
        """Return the newest messages and replies, or those before a time; the oldest first."""
        values = {"user_id": user_id, "before": before, "limit": PAGE}
        found = self._rows(_ENTRIES, values)
        return sorted(found, key=lambda one: (one.at, one.source is not None))

    def named(self, ids: Sequence[ChannelUserId]) -> Mapping[ChannelUserId, Row]:
        """Return the addresses of channel users."""
        return {row.id: row for row in self._rows(_NAMED, {"ids": list(ids)})}

    def paused(self) -> Sequence[Row]:
        """Return those whom no model answers: first who was handed over, the longest wait first."""
        return self._rows(_PAUSED, {"limit": LISTED})

    def diverged(self) -> Sequence[Row]:
        """Return those whose conversation at Telnyx an operator has to decide on."""
        return self._rows(_DIVERGED, {"limit": LISTED})
