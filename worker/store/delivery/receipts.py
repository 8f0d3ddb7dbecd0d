"""Receipts of text messages: recorded by their rank, whatever order they come in.

A receipt may overtake the answer to the request, so it also ends the attempt: Telnyx reports
only on what it has. See `worker.domain.sms.receipts` for the ranks.
"""

from collections.abc import Callable
from dataclasses import dataclass

from worker.domain.ids import ChannelUserId, DeliveryId
from worker.domain.messages import ChannelAddress
from worker.domain.screening.consents import LedgerEntry, Person
from worker.domain.sms.receipts import Receipt, is_known, outranked
from worker.domain.states import DeliveryState
from worker.store.consents import record
from worker.store.database import Store
from worker.store.rows import address_of, value_of
from worker.store.sql import Statement, sql

_BLOCKED = "40300"


def _record(where: str) -> Statement:
    # Once more with another key: Telnyx would answer the old one with its first answer. Not after
    # a newer reply, and not twice. It is as old as the first: `delivery_max_age_s` holds for both.
    return sql(f"""
WITH known AS (
    SELECT id FROM deliveries WHERE request IS NOT NULL AND {where} FOR UPDATE
), counted AS (
    UPDATE deliveries d SET receipt = :status, receipt_at = service_now(),
        receipt_error = coalesce(d.receipt_error, :error),
        provider_id = coalesce(d.provider_id, :provider_id), parts = coalesce(:parts, d.parts),
        state = CASE WHEN d.state NOT IN ('pending', 'sending', 'sent', 'unknown', 'expired')
            THEN d.state ELSE :state END,
        due_at = NULL, lease_until = NULL, finished_at = coalesce(d.finished_at, service_now())
    FROM known
    WHERE d.id = known.id AND (d.receipt IS NULL OR d.receipt = ANY(:outranked))
    RETURNING d.*, coalesce(d.part_of, d.id) AS first
), again AS (
    INSERT INTO deliveries (channel_user_id, channel, part_of, repeats, idempotency_key, request,
        due_at, created_at, counts_from)
    SELECT c.channel_user_id, c.channel, c.first, c.id, new.key,
        replace(c.request, CAST(c.idempotency_key AS text), CAST(new.key AS text)),
        service_now() + interval '1 min', c.created_at, c.counts_from
    FROM counted c, LATERAL (SELECT gen_random_uuid() AS key) AS new
    WHERE :repeatable AND c.state = 'failed' AND c.repeats IS NULL AND NOT EXISTS (
        SELECT FROM deliveries f JOIN replies r ON r.id = f.reply_id
            JOIN turns t ON t.channel_user_id = f.channel_user_id AND t.id > r.turn_id
            JOIN replies newer ON newer.turn_id = t.id
        WHERE f.id = c.first)
    RETURNING id
), rest AS (
    UPDATE deliveries p SET state = 'cancelled', due_at = NULL, finished_at = service_now()
    FROM counted c
    WHERE c.state IN ('failed', 'opted_out') AND NOT EXISTS (SELECT FROM again)
      AND p.channel_user_id = c.channel_user_id AND p.state = 'pending' AND p.part_of = c.first
      AND p.id > c.id
)
SELECT c.id, c.channel_user_id AS user_id, c.channel AS way_out, c.state, c.receipt,
    EXISTS (SELECT FROM again) AS repeated, u.channel, u.recipient, u.address, u.thread
FROM counted c JOIN channel_users u ON u.id = c.channel_user_id
""")


_BY_KEY = _record("idempotency_key = :key")
_BY_PROVIDER_ID = _record("provider_id = :provider_id")
_BY_ID = _record("id = :delivery")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A delivery after a receipt that counted."""

    id: DeliveryId
    user_id: ChannelUserId
    to: ChannelAddress
    way_out: str
    """The channel or route whose configuration it follows."""
    state: DeliveryState
    receipt: str
    repeated: bool
    """It goes out once more, as another delivery."""
    blocked: LedgerEntry | None = None
    """What the ledger got: the provider blocks the person."""


class ReceiptStore(Store):
    """Records receipts."""

    def record(
        self, receipt: Receipt, person_at: Callable[[ChannelAddress], Person] | None = None
    ) -> Recorded | None:
        """Record one; None = it changes nothing: no such delivery, or a receipt above it is known.

        `person_at`: whom the ledger gets if the provider blocks them. Safe to repeat.
        """
        if not is_known(receipt.status):
            return None
        state = DeliveryState.FAILED if receipt.fails else DeliveryState.SENT
        if receipt.error == _BLOCKED:
            state = DeliveryState.OPTED_OUT
        values: dict[str, object] = {
            "provider_id": receipt.provider_id,
            "status": receipt.status,
            "error": receipt.error,
            "parts": receipt.parts,
            "repeatable": receipt.repeatable,
            "state": state,
            "outranked": list(outranked(receipt.status)),
        }
        asked = _BY_PROVIDER_ID
        if receipt.delivery is not None:
            asked, values["delivery"] = _BY_ID, receipt.delivery
        elif receipt.key is not None:
            asked, values["key"] = _BY_KEY, receipt.key
        with self._database.transaction() as connection:
            row = connection.execute(asked, values).one_or_none()
            if row is None:
                return None
            to, blocked = address_of(row), None
            if state is DeliveryState.OPTED_OUT and person_at is not None:
                blocked = LedgerEntry.of_block(
                    person_at(to), channel=to.channel, recipient=to.recipient
                )
                record(connection, self._database.consent_key, blocked)
        return value_of(Recorded, row, to=to, blocked=blocked)
