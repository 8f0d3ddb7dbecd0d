"""Who and what has waited for longer than it should. Reads only."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from worker.domain.ids import ChannelUserId, MessageRowId
from worker.domain.reports.stuck import Backlog, StuckKind, StuckSnapshot, StuckUser
from worker.store.database import Database
from worker.store.limits.gates import closed_gates
from worker.store.sql import Connection, Row, sql

_NOW = sql("""
SELECT service_now() AS now,
    (SELECT count(*) FROM workers WHERE alive_until >= service_now()) AS workers
""")
_STALLED = sql("""
SELECT host || '/' || pid AS name, 1 AS how_many, stalled_since AS since FROM workers
WHERE alive_until >= service_now() AND stalled_since <= service_now() - :after
ORDER BY stalled_since
""")
# Each half has an index of its own: what waits, and what an open turn has taken.
_BY_AGENT = sql("""
SELECT agent AS name, count(*) AS how_many, min(accepted_at) AS since FROM (
    SELECT agent, accepted_at FROM messages WHERE state = 'pending'
    UNION ALL
    SELECT m.agent, m.accepted_at FROM turns t JOIN messages m ON m.turn_id = t.id
    WHERE t.state = 'open' AND m.state = 'in_turn'
) AS unanswered
WHERE accepted_at <= service_now() - :after GROUP BY agent ORDER BY agent
""")
_BY_CHANNEL = sql("""
SELECT channel AS name, count(*) AS how_many, min(created_at) AS since FROM deliveries
WHERE state IN ('pending', 'sending') AND created_at <= service_now() - :after
GROUP BY channel ORDER BY channel
""")
_INBOX = sql("""
SELECT 'inbox' AS name, count(*) AS how_many, min(created_at) AS since FROM inbox
WHERE created_at <= service_now() - :after HAVING count(*) > 0
""")
_OLDEST_MESSAGE = """
    coalesce((SELECT min(m.id) FROM messages m WHERE m.turn_id = u.open_turn_id),
        (SELECT min(m.id) FROM messages m WHERE m.channel_user_id = u.id AND m.state = 'pending'))
        AS message_id, count(*) OVER () AS total
"""
# Of a user who was held, the wait begins with the end of that lease: it is whichever comes first,
# its own end or that of its worker.
_DUE = sql(
    f"""
SELECT u.id, due.since, u.lease_owner IS NOT NULL AS was_held, {_OLDEST_MESSAGE}
FROM channel_users u LEFT JOIN workers w ON w.id = u.lease_owner, LATERAL (
    SELECT greatest(u.due_at, CASE WHEN u.lease_owner IS NOT NULL
        THEN least(u.lease_until, w.alive_until) END) AS since) AS due
WHERE u.due_at <= service_now() - :after AND due.since <= service_now() - :after
  AND u.diverged_at IS NULL
ORDER BY due.since LIMIT :limit"""
)
# Who has diverged keeps his due time: it is the way to him by an index.
_DIVERGED = sql(
    f"""
SELECT u.id, u.diverged_at AS since, {_OLDEST_MESSAGE}
FROM channel_users u WHERE u.due_at IS NOT NULL AND u.diverged_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM erasures e
                  WHERE e.channel_user_id = u.id AND e.finished_at IS NULL)
ORDER BY u.diverged_at LIMIT :limit"""
)
_ERASING = sql(
    f"""
SELECT u.id, e.requested_at AS since, {_OLDEST_MESSAGE}
FROM erasures e JOIN channel_users u ON u.id = e.channel_user_id
WHERE e.finished_at IS NULL AND e.requested_at <= service_now() - :after
ORDER BY e.requested_at LIMIT :limit"""
)
_DOUBT = sql(
    f"""
SELECT u.id, last.intent_at AS since, {_OLDEST_MESSAGE}
FROM turns t JOIN channel_users u ON u.id = t.channel_user_id, LATERAL (
    SELECT c.state, c.intent_at FROM calls c WHERE c.turn_id = t.id ORDER BY c.id DESC LIMIT 1
) AS last
WHERE t.state = 'open' AND u.diverged_at IS NULL AND last.state IN ('intended', 'unknown')
  AND last.intent_at <= service_now() - :quiet - :after
ORDER BY last.intent_at LIMIT :limit"""
)
_STRANDED = sql(
    f"""
SELECT u.id, waiting.since, {_OLDEST_MESSAGE}
FROM (SELECT channel_user_id, min(accepted_at) AS since FROM messages WHERE state = 'pending'
      GROUP BY channel_user_id) AS waiting JOIN channel_users u ON u.id = waiting.channel_user_id
WHERE u.due_at IS NULL AND u.diverged_at IS NULL AND waiting.since <= service_now() - :after
ORDER BY waiting.since LIMIT :limit"""
)
# Only the head of each line, and not behind a gate: the gate has a line of its own.
_DELIVERIES = sql("""
SELECT d.channel_user_id AS id, d.due_at AS since, count(*) OVER () AS total,
    (SELECT min(m.id) FROM messages m WHERE m.turn_id = r.turn_id) AS message_id
FROM deliveries d JOIN replies r ON r.id = d.reply_id
WHERE d.due_at <= service_now() - :after AND NOT EXISTS (
    SELECT FROM deliveries before
    WHERE before.channel_user_id = d.channel_user_id AND before.state IN ('pending', 'sending')
      AND before.id < d.id)
  AND NOT EXISTS (SELECT FROM gates g
                  WHERE g.name = 'webhook:' || d.channel AND g.closed_until > service_now())
ORDER BY d.due_at LIMIT :limit
""")
_OF_USERS: Final = {
    StuckKind.DIVERGED: _DIVERGED,
    StuckKind.ERASING: _ERASING,
    StuckKind.OVERDUE: _DUE,
    StuckKind.DOUBT: _DOUBT,
    StuckKind.STRANDED: _STRANDED,
    StuckKind.DELIVERY: _DELIVERIES,
}
MAX_USERS: Final = 20
"""So many channel users are named for each reason."""


class StuckStore:
    """Questions about what does not move."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def look(self, *, after_s: float, quiet_s: float) -> StuckSnapshot:
        """Find what has waited for `after_s`; a call in doubt, for `quiet_s` more."""
        values: dict[str, object] = {
            "after": timedelta(seconds=after_s),
            "quiet": timedelta(seconds=quiet_s),
            "limit": MAX_USERS,
        }
        with self._database.statement() as connection:
            now = connection.execute(_NOW).one()
            inbox = connection.execute(_INBOX, values).one_or_none()
            return StuckSnapshot(
                now=now.now,
                workers=now.workers,
                stalled=tuple(map(_crowd, connection.execute(_STALLED, values))),
                gates=closed_gates(connection),
                by_agent=tuple(map(_crowd, connection.execute(_BY_AGENT, values))),
                by_channel=tuple(map(_crowd, connection.execute(_BY_CHANNEL, values))),
                inbox=None if inbox is None else _crowd(inbox),
                users=tuple(_users(connection, values)),
            )


def _users(connection: Connection, values: dict[str, object]) -> Iterator[StuckUser]:
    for kind, question in _OF_USERS.items():
        for row in connection.execute(question, values):
            held = kind is StuckKind.OVERDUE and row.was_held
            yield StuckUser(
                kind=StuckKind.DEAD_LEASE if held else kind,
                user=ChannelUserId(row.id),
                message=None if row.message_id is None else MessageRowId(row.message_id),
                since=row.since,
                all_of_kind=row.total,
            )


def _crowd(row: Row) -> Backlog:
    return Backlog(name=row.name, count=row.how_many, since=row.since)
