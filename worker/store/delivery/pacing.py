"""Pacing: each message waits for the moment that it has reserved, and costs no attempt until then.

    due ──reserve──▶ permit_at now      claimed at once
           │ ──────▶ permit_at later    due at that time
           └ the day's messages are used up ──▶ the gate of that address closes until midnight UTC

One row of `rates` for each of our addresses, or for each domain that mails go to, as for calls: see
`worker.store.limits.rates`.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

from worker.domain.ids import ChannelUserId
from worker.domain.routing import Routing
from worker.domain.ways_out import MailDelivery, TelnyxDelivery
from worker.store.database import Database, Store
from worker.store.delivery.claim import IS_NEXT, PARKED
from worker.store.delivery.gates import NEXT_MIDNIGHT, sender_gate
from worker.store.limits.rates import next_free
from worker.store.sql import sql

_PACED = "CASE WHEN p.by_domain THEN split_part(u.address, '@', 2) ELSE u.recipient END"
_NEXT = next_free("p.longest + p.gap")
_BASE = f"(SELECT {_NEXT} FROM head p)"
# One that nobody can reserve any more before it expires asks again, and then expires. One that is
# brought forward waits for its person's hours no longer: newer ones would be due before it.
_RESERVE = sql(f"""
WITH head AS (
    SELECT d.id, {sender_gate("d.channel", _PACED)} AS sender, p.gap, p.most, p.longest
    FROM deliveries d JOIN channel_users u ON u.id = d.channel_user_id
        JOIN unnest(CAST(:channel AS text[]), CAST(:gap AS interval[]), CAST(:most AS integer[]),
            CAST(:longest AS interval[]), CAST(:by_domain AS boolean[]))
            AS p (channel, gap, most, longest, by_domain)
            ON p.channel = d.channel
    WHERE d.permit_at IS NULL AND {IS_NEXT}
      AND coalesce(d.counts_from, d.created_at) > service_now() - p.longest
    FOR UPDATE OF d SKIP LOCKED
), today AS (
    SELECT CAST(service_now() AT TIME ZONE 'UTC' AS date) AS day
), used_up AS (
    SELECT head.id FROM head JOIN rates r ON r.name = head.sender JOIN today USING (day)
    WHERE r.used >= head.most
), permit AS (
    INSERT INTO rates AS r (name, free_at, day, used)
    SELECT sender, service_now() + gap, day, 1 FROM head, today
    WHERE NOT EXISTS (SELECT FROM used_up)
    ON CONFLICT (name) DO UPDATE SET day = excluded.day,
        used = 1 + CASE WHEN r.day = excluded.day THEN r.used ELSE 0 END,
        free_at = {_BASE} + (SELECT gap FROM head)
    WHERE {_BASE} <= service_now() + (SELECT longest FROM head)
      AND (r.day IS DISTINCT FROM excluded.day
        OR r.used < coalesce((SELECT most FROM head), r.used + 1))
    RETURNING free_at - (SELECT gap FROM head) AS at
), closed AS (
    INSERT INTO gates AS g (name, closed_until, reason, strikes, changed_at)
    SELECT sender, {NEXT_MIDNIGHT}, 'messages_per_day', 1, service_now()
    FROM head JOIN used_up USING (id)
    ON CONFLICT (name) DO UPDATE SET closed_until = greatest(g.closed_until, excluded.closed_until),
        reason = excluded.reason, changed_at = excluded.changed_at
)
UPDATE deliveries d SET permit_at = permit.at,
    counts_from = CASE WHEN {PARKED.format("d")} THEN service_now() ELSE d.counts_from END,
    due_at = coalesce(permit.at, service_now() + interval '30 s')
FROM head LEFT JOIN permit ON true
WHERE d.id = head.id AND NOT EXISTS (SELECT FROM used_up)
RETURNING CAST(extract(epoch FROM d.due_at - service_now()) AS float8)
""")


class _Limit(NamedTuple):
    """The limit of a channel, for each address of ours or each domain of theirs."""

    channel: str
    gap: timedelta
    most: int | None
    """Messages a day; None = any number."""
    longest: timedelta
    """How long a reply waits at most."""
    by_domain: bool


def _limits(routing: Routing) -> Iterator[_Limit]:
    for name, policy in routing.channels.items():
        way, longest = policy.delivery, timedelta(seconds=policy.delivery_max_age_s)
        if isinstance(way, MailDelivery):
            gap = timedelta(seconds=60 / way.per_domain_per_minute)
            yield _Limit(name, gap, None, longest, by_domain=True)
        elif isinstance(way, TelnyxDelivery) and (way.messages_per_second or way.messages_per_day):
            rate = way.messages_per_second
            gap = timedelta(seconds=1 / rate if rate else 0.0)
            yield _Limit(name, gap, way.messages_per_day, longest, by_domain=False)


class PacingStore(Store):
    """Reserves moments to send, for all workers together."""

    def __init__(self, database: Database, routing: Routing) -> None:
        super().__init__(database)
        limits = list(_limits(routing))
        self._values = {name: [getattr(one, name) for one in limits] for name in _Limit._fields}
        self.paced = bool(limits)
        """Whether there is a limit at all."""

    def reserve(self, user_id: ChannelUserId) -> float:
        """Reserve a moment for the oldest reply; return the seconds until then, 0 if none waits."""
        row = self._row(_RESERVE, self._values | {"user_id": user_id}) if self.paced else None
        return 0.0 if row is None else max(float(row[0]), 0.0)
