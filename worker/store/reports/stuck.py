"""Reads what has waited for longer than it should."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from worker.domain.reports.stuck import StuckKind, StuckSnapshot, StuckUser, Waiting
from worker.store.delivery.deliveries import CAN_BE_CLAIMED
from worker.store.reports.status import StatusStore
from worker.store.rows import IS_DIVERGED, OPEN_TURNS, PENDING, value_of
from worker.store.sql import Statement, sql

_NOW = sql("SELECT service_now()")


def _of_users(since: str, found: str, more: str = "") -> Statement:
    """Return the statement of one kind: `found` follows FROM, and has the channel user as `u`."""
    return sql(f"""
SELECT u.id AS "user", {since} AS since, {more}
    coalesce((SELECT min(m.id) FROM messages m WHERE m.turn_id = u.open_turn_id),
        (SELECT min(m.id) FROM messages m WHERE m.channel_user_id = u.id AND {PENDING}))
        AS message, count(*) OVER () AS all_of_kind
FROM {found} ORDER BY since LIMIT :limit
""")


_OF_USERS: Final = {
    StuckKind.DIVERGED: _of_users("u.diverged_at", f"channel_users u WHERE {IS_DIVERGED}"),
    StuckKind.ERASING: _of_users(
        "e.requested_at",
        """erasures e JOIN channel_users u ON u.id = e.channel_user_id
WHERE e.finished_at IS NULL AND e.requested_at <= service_now() - :after""",
    ),
    # The wait of a user who was held begins when that lease ends: at its own end or at that of its
    # worker, whichever comes first.
    StuckKind.OVERDUE: _of_users(
        "due.since",
        """channel_users u LEFT JOIN workers w ON w.id = u.lease_owner, LATERAL (
    SELECT greatest(u.due_at, CASE WHEN u.lease_owner IS NOT NULL
        THEN least(u.lease_until, w.alive_until) END) AS since) AS due
WHERE u.due_at <= service_now() - :after AND due.since <= service_now() - :after
  AND u.diverged_at IS NULL""",
        "u.lease_owner IS NOT NULL AS was_held,",
    ),
    StuckKind.DOUBT: _of_users(
        "last.intent_at",
        f"""({OPEN_TURNS}) AS t JOIN channel_users u ON u.id = t.channel_user_id, LATERAL (
    SELECT c.state, c.intent_at FROM calls c WHERE c.turn_id = t.id ORDER BY c.id DESC LIMIT 1
) AS last
WHERE u.diverged_at IS NULL AND last.state IN ('intended', 'unknown')
  AND last.intent_at <= service_now() - :quiet - :after""",
    ),
    StuckKind.STRANDED: _of_users(
        "waiting.since",
        f"""(SELECT channel_user_id, min(accepted_at) AS since FROM messages WHERE {PENDING}
      GROUP BY channel_user_id) AS waiting JOIN channel_users u ON u.id = waiting.channel_user_id
WHERE u.due_at IS NULL AND u.diverged_at IS NULL AND waiting.since <= service_now() - :after""",
    ),
    # Only the first of each channel user, and none behind a gate: that gate is listed itself.
    StuckKind.DELIVERY: sql(f"""
SELECT d.channel_user_id AS "user", d.due_at AS since, count(*) OVER () AS all_of_kind,
    (SELECT min(m.id) FROM messages m WHERE m.turn_id = r.turn_id) AS message
FROM deliveries d LEFT JOIN replies r ON r.id = d.reply_id
WHERE d.due_at <= service_now() - :after AND {CAN_BE_CLAIMED} ORDER BY d.due_at LIMIT :limit
"""),
}
MAX_USERS: Final = 20
"""How many channel users are listed for each reason."""


class StuckStore(StatusStore):
    """Reads what has waited for too long."""

    def look(self, *, after_s: float, quiet_s: float) -> StuckSnapshot:
        """Find what has waited for `after_s`; a call in doubt, for `quiet_s` more."""
        after = timedelta(seconds=after_s)
        values = {"after": after, "quiet": timedelta(seconds=quiet_s), "limit": MAX_USERS}
        now: datetime = self._rows(_NOW)[0][0]
        users = tuple(self._users(values))
        workers = self.workers()
        stalled = [one for one in workers if one.stalled_s > 0 and one.stalled_s >= after_s]
        return StuckSnapshot(
            now=now,
            workers=len(workers),
            stalled=tuple(
                Waiting(
                    name=f"{one.host}/{one.pid}",
                    state="stalled",
                    count=1,
                    since=now - timedelta(seconds=one.stalled_s),
                    age_s=one.stalled_s,
                )
                for one in sorted(stalled, key=lambda one: -one.stalled_s)
            ),
            gates=self.closed_gates(),
            by_agent=self.unanswered(after),
            by_channel=self.undelivered(after),
            inbox=self.inbox(after),
            users=users,
        )

    def _users(self, values: Mapping[str, object]) -> Iterator[StuckUser]:
        for kind, question in _OF_USERS.items():
            for row in self._rows(question, values):
                held = kind is StuckKind.OVERDUE and row.was_held
                yield value_of(StuckUser, row, kind=StuckKind.DEAD_LEASE if held else kind)
