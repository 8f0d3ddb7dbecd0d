"""Gates of ways out: a delivery behind a closed one is not claimed, see `deliveries.py`.

`smtp:email`, `telnyx:sms` and `telnyx:sms:3f2a91c0` hold a channel back, or one of our addresses
there; the last part stands for it, as names of gates are in logs and metrics. `webhook:shop` has a
row from the first failure of an endpoint to the next success:

    no row ──failure──▶ row, open ──slow, or asks for a rest──▶ closed for a while ──▶ open
                            │ failures for days, no success between
                            ▼
                       switched off, until a person deletes the row

`closed_until` in the past = open; it is then the time of the last failure. `changed_at` = the time
of the first failure.
"""

from datetime import timedelta

from worker.domain.deliveries import ClaimedDelivery, Pause
from worker.domain.states import SWITCHED_OFF
from worker.store.database import Store
from worker.store.limits.gates import NEW_STRIKE, backoff
from worker.store.sql import sql

NEXT_MIDNIGHT = """(date_trunc('day', service_now() AT TIME ZONE 'UTC') + interval '1 day')
        AT TIME ZONE 'UTC'"""


def sender_gate(channel: str, recipient: str) -> str:
    """Return the SQL of the name of an address's gate, from that of channel and address."""
    digest = f"left(encode(sha256(convert_to({recipient}, 'UTF8')), 'hex'), 8)"
    return f"'telnyx:' || {channel} || ':' || {digest}"


_OUR_ADDRESS = "(SELECT recipient FROM channel_users WHERE id = d.channel_user_id)"
GATES_OF_DELIVERY = f"""g.name IN ('webhook:' || d.channel, 'telnyx:' || d.channel,
        'smtp:' || d.channel, {sender_gate("d.channel", _OUR_ADDRESS)})"""
"""Whether a gate `g` holds back a delivery `d`."""

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
# The longer of two pauses counts, whichever comes last.
_PAUSE = sql(f"""
INSERT INTO gates AS g (name, closed_until, reason, strikes, changed_at)
SELECT CASE WHEN :whole THEN :kind || ':' || :channel
        ELSE {sender_gate(":channel", ":recipient")} END,
    coalesce(service_now() + :wait, {NEXT_MIDNIGHT}), :reason, 1, service_now()
ON CONFLICT (name) DO UPDATE SET closed_until = greatest(g.closed_until, excluded.closed_until),
    reason = excluded.reason, strikes = g.strikes + 1, changed_at = service_now()
""")
# A success resets the strikes, but does not cut short a rest that was asked for: it may have been
# under way, and does not prove that it is over.
_ANSWERED = sql(f"""
WITH over AS (
    DELETE FROM gates WHERE name IN ('webhook:' || :channel, 'telnyx:' || :channel,
        'smtp:' || :channel, {sender_gate(":channel", ":recipient")})
      AND closed_until <= service_now()
)
UPDATE gates SET changed_at = service_now(), strikes = 0
WHERE name = 'webhook:' || :channel AND closed_until > service_now() AND reason <> :off
""")


class GateStore(Store):
    """The gates of ways out."""

    def failed(self, channel: str, *, reason: str, rests: bool, asked_s: float = 0.0) -> bool:
        """Record a webhook's failure; True = it is off now. `rests`: for at least `asked_s`."""
        values = {"channel": channel, "reason": reason, "rests": rests, "off": SWITCHED_OFF}
        row = self._row(_FAILED, {**values, "asked": timedelta(seconds=asked_s)})
        return row is not None and bool(row[0])

    def pause(self, claimed: ClaimedDelivery, pause: Pause, reason: str, *, kind: str) -> None:
        """Hold back a whole channel (`kind`: `telnyx` or `smtp`), or an address of ours."""
        wait = None if pause.seconds is None else timedelta(seconds=pause.seconds)
        to = claimed.reply.to
        values = {"channel": claimed.policy_name, "recipient": to.recipient, "wait": wait}
        more = {"whole": pause.scope == "channel", "reason": reason, "kind": kind}
        self._change(_PAUSE, {**values, **more})

    def answered(self, channel: str, recipient: str = "") -> None:
        """Record a success after failures; `recipient`: the address of ours that it left."""
        values = {"channel": channel, "recipient": recipient, "off": SWITCHED_OFF}
        self._change(_ANSWERED, values)
