"""Endpoints of webhooks that fail: a row of `gates` from the first failure to the next success.

    no row ──failure──▶ row, open ──slow, or asks for a rest──▶ closed for a while ──▶ open
                            │ failures for days, no success between
                            ▼
                       switched off, until a person deletes the row

`closed_until` in the past = open; it is then the time of the last failure. `changed_at` = since
when it fails. What waits behind a closed one is not even claimed, see `deliveries.py`.
"""

from datetime import timedelta

from worker.domain.states import SWITCHED_OFF
from worker.store.database import Database
from worker.store.sql import sql

OFF_AFTER = timedelta(days=5)
FORGET_AFTER = timedelta(days=1)
"""Failures further apart are two stories: somebody writes once a week, and it failed both times.
While a reply is tried again, they are at most ten hours apart."""
OFF_FOR = timedelta(days=3650)
FIRST_REST = timedelta(seconds=15)
LONGEST_REST = timedelta(minutes=5)
"""Doubling between. Each attempt at an endpoint that hangs costs a thread fifteen seconds."""

# Once it is off, replies that were on their way change nothing any more.
_FAILED = sql("""
INSERT INTO gates AS g (name, closed_until, reason, strikes, changed_at)
VALUES ('webhook:' || :channel,
    service_now() + CASE WHEN :rests THEN greatest(:asked, :first) ELSE interval '0' END,
    :reason, CASE WHEN :rests THEN 1 ELSE 0 END, service_now())
ON CONFLICT (name) DO UPDATE SET
    changed_at = CASE WHEN g.closed_until < service_now() - :forget_after
        THEN service_now() ELSE g.changed_at END,
    -- A whole crowd that fails together is one strike.
    strikes = g.strikes + CASE WHEN :rests AND g.closed_until <= service_now() THEN 1 ELSE 0 END,
    closed_until = CASE
        WHEN g.closed_until >= service_now() - :forget_after
             AND g.changed_at <= service_now() - :off_after
        THEN service_now() + :off_for
        WHEN NOT :rests THEN greatest(g.closed_until, service_now())
        WHEN g.closed_until > service_now()
        THEN greatest(g.closed_until, service_now() + :asked)
        ELSE service_now()
             + greatest(:asked, least(:longest, :first * power(2, least(g.strikes, 16)))) END,
    reason = CASE
        WHEN g.closed_until >= service_now() - :forget_after
             AND g.changed_at <= service_now() - :off_after
        THEN :off ELSE :reason END
WHERE g.reason <> :off
RETURNING reason = :off
""")
# A pause that was asked for is kept; a success only ends the story.
_ANSWERED = sql("""
WITH over AS (
    DELETE FROM gates WHERE name = 'webhook:' || :channel AND closed_until <= service_now()
)
UPDATE gates SET changed_at = service_now(), strikes = 0
WHERE name = 'webhook:' || :channel AND closed_until > service_now() AND reason <> :off
""")


class EndpointStore:
    """How the endpoints behind channels do."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def failed(self, channel: str, *, reason: str, rests: bool, asked_s: float = 0.0) -> bool:
        """Note a failure; True = the endpoint is now switched off.

        `rests`: nobody's replies are tried for a while, for `asked_s` at least.
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
        """Note a success after failures."""
        with self._database.statement() as connection:
            connection.execute(_ANSWERED, {"channel": channel, "off": SWITCHED_OFF})
