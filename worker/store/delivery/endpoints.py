"""Webhook endpoints that fail: a row of `gates` from the first failure to the next success.

    no row ──failure──▶ row, open ──slow, or asks for a rest──▶ closed for a while ──▶ open
                            │ failures for days, no success between
                            ▼
                       switched off, until a person deletes the row

`closed_until` in the past = open; it is then the time of the last failure. `changed_at` = the time
of the first failure. Deliveries to a closed endpoint are not claimed, see `deliveries.py`.
"""

from datetime import timedelta

from worker.domain.states import SWITCHED_OFF
from worker.store.database import Database
from worker.store.limits.gates import BACKOFF, NEW_STRIKE
from worker.store.sql import sql

OFF_AFTER = timedelta(days=5)
FORGET_AFTER = timedelta(days=1)
"""Failures further apart are counted anew: two failures in two weeks do not prove an outage.
While a reply is retried, they are at most ten hours apart."""
OFF_FOR = timedelta(days=3650)
FIRST_REST = timedelta(seconds=15)
LONGEST_REST = timedelta(minutes=5)
"""Each attempt at an endpoint that hangs occupies a thread for fifteen seconds."""

# Attempts that were under way when it was switched off must not switch it on again.
_FAILED = sql(f"""
INSERT INTO gates AS g (name, closed_until, reason, strikes, changed_at)
VALUES ('webhook:' || :channel,
    service_now() + CASE WHEN :rests THEN greatest(:asked, :first) ELSE interval '0' END,
    :reason, CASE WHEN :rests THEN 1 ELSE 0 END, service_now())
ON CONFLICT (name) DO UPDATE SET
    changed_at = CASE WHEN g.closed_until < service_now() - :forget_after
        THEN service_now() ELSE g.changed_at END,
    strikes = g.strikes + CASE WHEN :rests THEN {NEW_STRIKE} ELSE 0 END,
    closed_until = CASE
        WHEN g.closed_until >= service_now() - :forget_after
             AND g.changed_at <= service_now() - :off_after
        THEN service_now() + :off_for
        WHEN NOT :rests THEN greatest(g.closed_until, service_now())
        WHEN g.closed_until > service_now()
        THEN greatest(g.closed_until, service_now() + :asked)
        ELSE service_now() + greatest(:asked, {BACKOFF}) END,
    reason = CASE
        WHEN g.closed_until >= service_now() - :forget_after
             AND g.changed_at <= service_now() - :off_after
        THEN :off ELSE :reason END
WHERE g.reason <> :off
RETURNING reason = :off
""")
# A success resets the strikes, but does not cut short a rest that the endpoint asked for.
_ANSWERED = sql("""
WITH over AS (
    DELETE FROM gates WHERE name = 'webhook:' || :channel AND closed_until <= service_now()
)
UPDATE gates SET changed_at = service_now(), strikes = 0
WHERE name = 'webhook:' || :channel AND closed_until > service_now() AND reason <> :off
""")


class EndpointStore:
    """The gates of webhook endpoints."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def failed(self, channel: str, *, reason: str, rests: bool, asked_s: float = 0.0) -> bool:
        """Record a failure; True = the endpoint is now switched off.

        `rests`: no reply is sent to it for a while, at least `asked_s`.
        """
        values = {
            "channel": channel,
            "reason": reason,
            "rests": rests,
            "asked": timedelta(seconds=asked_s),
            "first": FIRST_REST,
            "longest": LONGEST_REST,
            "forget_after": FORGET_AFTER,
            "off_after": OFF_AFTER,
            "off_for": OFF_FOR,
            "off": SWITCHED_OFF,
        }
        with self._database.statement() as connection:
            return bool(connection.execute(_FAILED, values).scalar_one_or_none())

    def answered(self, channel: str) -> None:
        """Record a success after failures."""
        with self._database.statement() as connection:
            connection.execute(_ANSWERED, {"channel": channel, "off": SWITCHED_OFF})
