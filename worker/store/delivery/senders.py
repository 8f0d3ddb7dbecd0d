"""Gates of channels of Telnyx and SMTP: one of the whole channel, one of each address of ours.

`smtp:email`, `telnyx:sms` and `telnyx:sms:3f2a91c0`, where the last part stands for the address:
names of gates are in logs and metrics. Deliveries behind a closed gate are not claimed, see
`deliveries.py`.
"""

from datetime import timedelta

from worker.domain.deliveries import ClaimedDelivery, Pause
from worker.store.database import Store
from worker.store.sql import sql

MIDNIGHT = """(date_trunc('day', service_now() AT TIME ZONE 'UTC') + interval '1 day')
        AT TIME ZONE 'UTC'"""


def sender_gate(channel: str, recipient: str) -> str:
    """Return the SQL of the name of an address's gate, from that of channel and address."""
    digest = f"left(encode(sha256(convert_to({recipient}, 'UTF8')), 'hex'), 8)"
    return f"'telnyx:' || {channel} || ':' || {digest}"


_OUR_ADDRESS = "(SELECT recipient FROM channel_users WHERE id = d.channel_user_id)"
GATES_OF_DELIVERY = f"""g.name IN ('webhook:' || d.channel, 'telnyx:' || d.channel,
        'smtp:' || d.channel, {sender_gate("d.channel", _OUR_ADDRESS)})"""
"""Whether a gate `g` holds back a delivery `d`."""

# The longer of two pauses counts, whichever comes last.
_PAUSE = sql(f"""
INSERT INTO gates AS g (name, closed_until, reason, strikes, changed_at)
SELECT CASE WHEN :whole THEN :kind || ':' || :channel
        ELSE {sender_gate(":channel", ":recipient")} END,
    coalesce(service_now() + :wait, {MIDNIGHT}), :reason, 1, service_now()
ON CONFLICT (name) DO UPDATE SET closed_until = greatest(g.closed_until, excluded.closed_until),
    reason = excluded.reason, strikes = g.strikes + 1, changed_at = service_now()
""")
# One that is closed stays closed: a success that was under way does not prove that it is over.
_ANSWERED = sql(f"""
DELETE FROM gates
WHERE name IN ('telnyx:' || :channel, 'smtp:' || :channel,
        {sender_gate(":channel", ":recipient")})
  AND closed_until <= service_now()
""")


class SenderStore(Store):
    """The gates of channels of Telnyx and SMTP."""

    def pause(
        self, claimed: ClaimedDelivery, pause: Pause, reason: str, *, kind: str = "telnyx"
    ) -> None:
        """Hold back a whole channel (`kind`: `telnyx` or `smtp`), or an address of ours."""
        wait = None if pause.seconds is None else timedelta(seconds=pause.seconds)
        values = {"whole": pause.scope == "channel", "wait": wait, "reason": reason, "kind": kind}
        self._change(_PAUSE, _names(claimed) | values)

    def answered(self, claimed: ClaimedDelivery) -> None:
        """Forget pauses that are over, after a success."""
        self._change(_ANSWERED, _names(claimed))


def _names(claimed: ClaimedDelivery) -> dict[str, object]:
    return {"channel": claimed.policy_name, "recipient": claimed.reply.to.recipient}
