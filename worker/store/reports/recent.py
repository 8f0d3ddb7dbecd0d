"""Recent messages, and the channel users who wrote them, newest first. Reads only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from worker.domain.ids import ChannelUserId
from worker.store.database import Store
from worker.store.reports.gauges import first_since
from worker.store.sql import Row, sql

_SINCE: Final = "coalesce(CAST(:since AS timestamptz), service_now() - interval '1 day')"
_FIRST: Final = first_since("messages", "accepted_at", _SINCE)
_MESSAGES: Final = """
SELECT m.id, m.channel_user_id AS "user", u.channel, m.agent, m.state, m.outcome, m.accepted_at,
    m.turn_id AS turn, CASE WHEN :texts THEN m.envelope ->> 'text' END AS text
FROM messages m,
    LATERAL (SELECT channel FROM channel_users WHERE id = m.channel_user_id OFFSET 0) AS u
WHERE (CAST(:channel AS text) IS NULL OR u.channel = :channel)
  AND (CAST(:state AS text) IS NULL OR :state IN (m.state, m.outcome))
"""
_RECENT_MESSAGES: Final = sql(f"""{_FIRST} {_MESSAGES}
  AND m.id >= (SELECT id FROM first) AND m.accepted_at >= {_SINCE}
ORDER BY m.id DESC LIMIT :limit""")
_MESSAGES_OF_USER: Final = sql(f"""{_MESSAGES}
  AND m.channel_user_id = :user_id
  AND (CAST(:since AS timestamptz) IS NULL OR m.accepted_at >= :since)
ORDER BY m.seq DESC LIMIT :limit""")
_USERS: Final = """
SELECT u.id, u.channel, u.agent, u.state, last.id AS last_message, last.accepted_at AS last_at
FROM {ids}, LATERAL (SELECT id, channel, agent, CASE WHEN diverged_at IS NOT NULL THEN 'diverged'
        WHEN paused_at IS NOT NULL THEN 'paused'
        WHEN num_nonnulls(due_at, open_turn_id) > 0 THEN 'waiting'
        ELSE 'idle' END AS state FROM channel_users WHERE id = ids.id OFFSET 0) AS u
LEFT JOIN LATERAL (SELECT id, accepted_at FROM messages WHERE channel_user_id = u.id
    ORDER BY seq DESC LIMIT 1) AS last ON true
WHERE (CAST(:channel AS text) IS NULL OR u.channel = :channel)
  AND (CAST(:state AS text) IS NULL OR u.state = :state)
ORDER BY last.id DESC NULLS LAST LIMIT :limit
"""
# Bounded: a busy day has millions of messages.
_NEWEST: Final = """(SELECT DISTINCT channel_user_id AS id FROM (
    SELECT channel_user_id FROM messages WHERE id >= (SELECT id FROM first)
    ORDER BY id DESC LIMIT 10000) AS newest) AS ids"""
_RECENT_USERS: Final = sql(_FIRST + _USERS.format(ids=_NEWEST))
_THESE_USERS: Final = sql(_USERS.format(ids="unnest(CAST(:ids AS bigint[])) AS ids (id)"))


class RecentStore(Store):
    """`since`: None = one day ago. Each method is one statement over an index."""

    def messages(
        self,
        user_id: ChannelUserId | None = None,
        *,
        channel: str | None = None,
        state: str | None = None,
        since: datetime | None = None,
        limit: int,
        texts: bool = False,
    ) -> Sequence[Row]:
        """Return messages; of one user also older ones. `state`: a state or an outcome."""
        statement = _RECENT_MESSAGES if user_id is None else _MESSAGES_OF_USER
        values = {"user_id": user_id, "channel": channel, "state": state, "since": since}
        return self._rows(statement, values | {"limit": limit, "texts": texts})

    def users(
        self,
        ids: Sequence[ChannelUserId] | None = None,
        *,
        channel: str | None = None,
        state: str | None = None,
        since: datetime | None = None,
        limit: int,
    ) -> Sequence[Row]:
        """Return these users, or those of the newest ten thousand messages."""
        statement = _RECENT_USERS if ids is None else _THESE_USERS
        values = {"ids": ids and list(ids), "channel": channel, "state": state, "since": since}
        return self._rows(statement, values | {"limit": limit})
