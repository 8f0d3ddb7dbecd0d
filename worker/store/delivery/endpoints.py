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
from worker.store.database import Store
from worker.store.limits.gates import NEW_STRIKE, backoff
from worker.store.sql import sql

# Failures more than a day apart are counted anew: two failures in two weeks do not prove an outage.
# While a reply is retried, they are at most ten hours apart.
_FORGOTTEN = "g.closed_until < service_now() - interval '1 day'"
_IS_OFF = f"NOT {_FORGOTTEN} AND g.changed_at <= service_now() - interval '5 days'"
# Five minutes, as each attempt at an endpoint that hangs occupies a thread for fifteen seconds.
_REST = backoff("5 min")
# Attempts that were under way when it was switched off must not switch it on again.
_FAILED = sql(f"""
INSERT INTO gates AS g (name, closed_until, reason, strikes, changed_at)
VALUES ('webhook:' || :channel,
    service_now() + CASE WHEN :rests THEN greatest(:asked, interval '15 s') ELSE interval '0' END,
    :reason, CASE WHEN :rests THEN 1 ELSE 0 END, service_now())
ON CONFLICT (name) DO UPDATE SET
    changed_at = CASE WHEN {_FORGOTTEN} THEN service_now() ELSE g.changed_at END,
    strikes = g.strikes + CASE WHEN :rests THEN {NEW_STRIKE} ELSE 0 END,
    closed_until = CASE WHEN {_IS_OFF} THEN service_now() + interval '3650 days'
        WHEN NOT :rests THEN greatest(g.closed_until, service_now())
        WHEN g.closed_until > service_now()
        THEN greatest(g.closed_until, service_now() + :asked)
        ELSE service_now() + greatest(:asked, {_REST}) END,
    reason = CASE WHEN {_IS_OFF} THEN :off ELSE :reason END
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


class EndpointStore(Store):
    """The gates of webhook endpoints."""

    def failed(self, channel: str, *, reason: str, rests: bool, asked_s: float = 0.0) -> bool:
        """Record a failure; True = it is off now. `rests`: for at least `asked_s`."""
        values = {
            "channel": channel,
            "reason": reason,
            "rests": rests,
            "asked": timedelta(seconds=asked_s),
            "off": SWITCHED_OFF,
        }
        row = self._row(_FAILED, values)
        return row is not None and bool(row[0])

    def answered(self, channel: str) -> None:
        """Record a success after failures."""
        self._change(_ANSWERED, {"channel": channel, "off": SWITCHED_OFF})
