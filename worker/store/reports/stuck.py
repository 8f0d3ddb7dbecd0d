"""Reads what has waited for longer than it should."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from worker.domain.reports.stuck import Backlog, StuckKind, StuckSnapshot, StuckUser
from worker.store.database import Database
from worker.store.reports.status import StatusStore, Waiting
from worker.store.rows import value_of
from worker.store.sql import Connection, sql
from worker.store.workers import LivingWorker

_NOW = sql("SELECT service_now()")
_OLDEST_MESSAGE = """
    coalesce((SELECT min(m.id) FROM messages m WHERE m.turn_id = u.open_turn_id),
        (SELECT min(m.id) FROM messages m WHERE m.channel_user_id = u.id AND m.state = 'pending'))
        AS message, count(*) OVER () AS all_of_kind
"""
# The wait of a user who was held begins when that lease ends: at its own end or at that of its
# worker, whichever comes first.
_DUE = sql(
    f"""
SELECT u.id AS "user", due.since, u.lease_owner IS NOT NULL AS was_held, {_OLDEST_MESSAGE}
FROM channel_users u LEFT JOIN workers w ON w.id = u.lease_owner, LATERAL (
    SELECT greatest(u.due_at, CASE WHEN u.lease_owner IS NOT NULL
        THEN least(u.lease_until, w.alive_until) END) AS since) AS due
WHERE u.due_at <= service_now() - :after AND due.since <= service_now() - :after
  AND u.diverged_at IS NULL
ORDER BY due.since LIMIT :limit"""
)
# A diverged user keeps the due time: due_at is not null is what the index has.
_DIVERGED = sql(
    f"""
SELECT u.id AS "user", u.diverged_at AS since, {_OLDEST_MESSAGE}
FROM channel_users u WHERE u.due_at IS NOT NULL AND u.diverged_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM erasures e
                  WHERE e.channel_user_id = u.id AND e.finished_at IS NULL)
ORDER BY u.diverged_at LIMIT :limit"""
)
_ERASING = sql(
    f"""
SELECT u.id AS "user", e.requested_at AS since, {_OLDEST_MESSAGE}
FROM erasures e JOIN channel_users u ON u.id = e.channel_user_id
WHERE e.finished_at IS NULL AND e.requested_at <= service_now() - :after
ORDER BY e.requested_at LIMIT :limit"""
)
_DOUBT = sql(
    f"""
SELECT u.id AS "user", last.intent_at AS since, {_OLDEST_MESSAGE}
FROM turns t JOIN channel_users u ON u.id = t.channel_user_id, LATERAL (
    SELECT c.state, c.intent_at FROM calls c WHERE c.turn_id = t.id ORDER BY c.id DESC LIMIT 1
) AS last
WHERE t.state = 'open' AND u.diverged_at IS NULL AND last.state IN ('intended', 'unknown')
  AND last.intent_at <= service_now() - :quiet - :after
ORDER BY last.intent_at LIMIT :limit"""
)
_STRANDED = sql(
    f"""
SELECT u.id AS "user", waiting.since, {_OLDEST_MESSAGE}
FROM (SELECT channel_user_id, min(accepted_at) AS since FROM messages WHERE state = 'pending'
      GROUP BY channel_user_id) AS waiting JOIN channel_users u ON u.id = waiting.channel_user_id
WHERE u.due_at IS NULL AND u.diverged_at IS NULL AND waiting.since <= service_now() - :after
ORDER BY waiting.since LIMIT :limit"""
)
# Only the first of each channel user, and none behind a gate: that gate is listed itself.
_DELIVERIES = sql("""
SELECT d.channel_user_id AS "user", d.due_at AS since, count(*) OVER () AS all_of_kind,
    (SELECT min(m.id) FROM messages m WHERE m.turn_id = r.turn_id) AS message
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
"""How many channel users are listed for each reason."""


class StuckStore:
    """Reads what has waited for too long."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._status = StatusStore(database)

    def look(self, *, after_s: float, quiet_s: float) -> StuckSnapshot:
        """Find what has waited for `after_s`; a call in doubt, for `quiet_s` more."""
        after = timedelta(seconds=after_s)
        values = {"after": after, "quiet": timedelta(seconds=quiet_s), "limit": MAX_USERS}
        with self._database.statement() as connection:
            now: datetime = connection.execute(_NOW).scalar_one()
            users = tuple(_users(connection, values))
        workers, inbox = self._status.workers(), self._status.inbox(after)
        return StuckSnapshot(
            now=now,
            workers=len(workers),
            stalled=tuple(_stalled(workers, now=now, after_s=after_s)),
            gates=self._status.closed_gates(),
            by_agent=_by_name(self._status.unanswered(after)),
            by_channel=_by_name(self._status.undelivered(after)),
            inbox=_backlog("inbox", [inbox]) if inbox else None,
            users=users,
        )


def _users(connection: Connection, values: Mapping[str, object]) -> Iterator[StuckUser]:
    for kind, question in _OF_USERS.items():
        for row in connection.execute(question, values):
            held = kind is StuckKind.OVERDUE and row.was_held
            yield value_of(StuckUser, row, kind=StuckKind.DEAD_LEASE if held else kind)


def _stalled(
    workers: Iterable[LivingWorker], *, now: datetime, after_s: float
) -> Iterator[Backlog]:
    """Return the workers that have stalled for `after_s`, the longest first."""
    for one in sorted(workers, key=lambda one: -one.stalled_s):
        if one.stalled_s > 0 and one.stalled_s >= after_s:
            since = now - timedelta(seconds=one.stalled_s)
            yield Backlog(name=f"{one.host}/{one.pid}", count=1, since=since)


def _by_name(waiting: Sequence[Waiting]) -> tuple[Backlog, ...]:
    names = sorted({one.name for one in waiting})
    return tuple(_backlog(name, [one for one in waiting if one.name == name]) for name in names)


def _backlog(name: str, waiting: Sequence[Waiting]) -> Backlog:
    count, since = sum(one.count for one in waiting), min(one.since for one in waiting)
    return Backlog(name=name, count=count, since=since)
