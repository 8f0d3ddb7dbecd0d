"""The outbox: in order per channel user, with each attempt committed before it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from worker.domain.deliveries import (
    ClaimedDelivery,
    DeliveryOutcome,
    OutgoingReply,
    Piece,
    Refusal,
    Sent,
)
from worker.domain.errors import StaleLeaseError
from worker.domain.ids import ChannelUserId
from worker.domain.messages import ChannelAddress
from worker.domain.people.hand_over import HandOverNotice, HandOverReason
from worker.domain.routing import Routing
from worker.domain.screening.consents import OPTED_OUT, LedgerEntry
from worker.domain.states import DeliveryState
from worker.store.consents import record, values_of_users
from worker.store.database import Database, Store
from worker.store.delivery.claim import CLAIM, MAY_HAVE_ARRIVED, PARKED
from worker.store.delivery.gates import GATES_OF_DELIVERY
from worker.store.rows import address_of, value_of
from worker.store.sql import Connection, Statement, sql

# A rejected reply becomes a dead letter at once: another attempt would be rejected, too. A refusal
# that cannot be told is one already. A receipt that came first has ended the attempt: it stands.
_END = sql("""
WITH ended AS (
    UPDATE deliveries SET state = CASE WHEN receipt IS NULL THEN :state ELSE state END,
        lease_until = NULL, provider_id = coalesce(:provider_id, provider_id),
        parts = coalesce(:parts, parts), provider_status = :provider_status,
        due_at = CASE WHEN :again AND receipt IS NULL THEN service_now() + :wait END,
        finished_at = CASE WHEN receipt IS NOT NULL THEN finished_at
            WHEN NOT :again THEN service_now() END
    WHERE id = :id AND lease_token = :token
    RETURNING id, reply_id, channel_user_id, state, coalesce(part_of, id) AS first
), rest AS (
    UPDATE deliveries p SET state = 'cancelled', due_at = NULL, finished_at = service_now()
    FROM ended e
    WHERE e.state IN ('failed', 'expired', 'opted_out', 'superseded')
      AND p.channel_user_id = e.channel_user_id
      AND p.state = 'pending' AND p.part_of = e.first AND p.id > e.id
), letter AS (
    INSERT INTO dead_letters (kind, delivery_id, reason, detail, created_at)
    SELECT 'delivery', id, 'delivery_rejected', coalesce(:provider_status, ''), service_now()
    FROM ended WHERE state = 'failed' AND :state = 'failed' AND (reply_id IS NOT NULL OR first < id)
)
SELECT id FROM ended
""")
_TELL = sql("""
UPDATE messages m SET outcome = :outcome
FROM deliveries d JOIN replies r ON r.id = d.reply_id
WHERE d.id = :id AND d.state = 'opted_out' AND m.turn_id = r.turn_id AND m.state = 'answered'
""")
CAN_BE_CLAIMED = f"""d.state IN ('pending', 'sending') AND NOT EXISTS (
    SELECT FROM deliveries before
    WHERE before.channel_user_id = d.channel_user_id AND before.state IN ('pending', 'sending')
      AND (coalesce(before.part_of, before.id), before.id) < (coalesce(d.part_of, d.id), d.id)
      AND NOT {PARKED.format("before")})
  AND NOT EXISTS (SELECT FROM gates g
                  WHERE g.closed_until > service_now() AND {GATES_OF_DELIVERY})"""
"""Whether a delivery `d` is the first of its channel user, and not behind a closed gate. Those that
wait for the person's hours do not count: a newer one brings them forward."""
# Only those: others would fill the limit and hide them. Besides, drafts expire.
_DUE = sql(f"""
WITH stale AS (
    UPDATE deliveries SET state = 'expired', due_at = NULL, finished_at = service_now()
    WHERE state = 'held' AND due_at <= service_now()
)
SELECT d.channel_user_id FROM deliveries d
WHERE d.due_at <= service_now() - :grace AND {CAN_BE_CLAIMED} ORDER BY d.due_at LIMIT :limit
""")

# Deliveries of the later pieces are made with it, so that there are all of them or none. A mail is
# known before it leaves: the answer to it may come before that of the server.
_COMPOSE = sql("""
WITH first AS (
    UPDATE deliveries SET request = :request
    WHERE id = :id AND lease_token = :token AND request IS NULL
    RETURNING id, reply_id, channel_user_id, channel, exempt_until, created_at, counts_from
), others AS (
    INSERT INTO deliveries
        (channel_user_id, channel, part_of, idempotency_key, request, due_at, exempt_until,
         created_at, counts_from)
    SELECT first.channel_user_id, first.channel, first.id, later.key, later.request, service_now(),
        first.exempt_until, first.created_at, first.counts_from
    FROM first, unnest(CAST(:keys AS uuid[]), CAST(:requests AS text[])) WITH ORDINALITY
        AS later (key, request, number) ORDER BY later.number
), mail AS (
    INSERT INTO mails (channel, recipient, address, thread, root, message_id, refs, subject,
        delivery_id, created_at)
    SELECT u.channel, u.recipient, u.address, u.thread, :root, :message_id, CAST(:refs AS text[]),
        :subject, first.id, service_now()
    FROM first JOIN channel_users u ON u.id = first.channel_user_id
    WHERE CAST(:message_id AS text) IS NOT NULL
), disclosure AS (
    INSERT INTO disclosures
        (channel_user_id, conversation_id, delivery_id, language, text, created_at)
    SELECT first.channel_user_id, t.conversation_id, first.id, :language, :told, service_now()
    FROM first JOIN replies r ON r.id = first.reply_id JOIN turns t ON t.id = r.turn_id
    WHERE CAST(:told AS text) IS NOT NULL
)
SELECT id FROM first
""")
# A lease of its own: it goes on from the point after which another attempt could double the reply.
_NOTE = sql("""
UPDATE deliveries SET provider_status = :status, lease_until = service_now() + :lease,
    due_at = service_now() + :lease
WHERE id = :id AND lease_token = :token RETURNING id
""")
# All replies of the user wait for the opening. It costs no attempt, and their age counts from it.
_WAIT = sql("""
WITH head AS (
    UPDATE deliveries SET state = 'pending', due_at = :until, counts_from = :until,
        lease_until = NULL, permit_at = NULL, attempts = attempts - 1,
        first_attempt_at = CASE WHEN attempts > 1 THEN first_attempt_at END
    WHERE id = :id AND lease_token = :token
    RETURNING id, channel_user_id
), others AS (
    UPDATE deliveries d SET due_at = :until, counts_from = :until, permit_at = NULL
    FROM head WHERE d.channel_user_id = head.channel_user_id AND d.id <> head.id
      AND d.state = 'pending' AND d.due_at < :until
)
SELECT id FROM head
""")
# The relay has replaced our Message-ID: answers will name this one.
_RENAME = sql("UPDATE mails SET message_id = :mail_id WHERE delivery_id = :id")


def _notice(document: dict[str, Any]) -> HandOverNotice:
    who = ChannelAddress(**document.pop("who"))
    return HandOverNotice(who=who, **document | {"reason": HandOverReason(document["reason"])})


class DeliveryStore(Store):
    """Deliveries of replies."""

    def __init__(self, database: Database, *, lease_s: float) -> None:
        super().__init__(database)
        self._lease = timedelta(seconds=lease_s)

    def claim(self, user_id: ChannelUserId, routing: Routing) -> ClaimedDelivery | None:
        """Commit the start of an attempt at the user's oldest reply; None = nothing is due."""
        values = {
            "user_id": user_id,
            "lease": self._lease,
            "disclosing": list(routing.disclosing),
            "timed": list(routing.timed),
        }
        values |= values_of_users(self._database.consent_key, routing.scopes)
        row = self._row(CLAIM, values)
        if row is None:
            return None
        # Not the trace context of the message: an attempt has one of its own.
        more = {"to": address_of(row), "metadata": row.metadata or {}, "traceparent": None}
        more["refusal"] = None if row.dead_letter is None else value_of(Refusal, row)
        more["hand_over"] = row.hand_over and _notice(row.hand_over)
        return value_of(ClaimedDelivery, row, reply=value_of(OutgoingReply, row, **more))

    def wait(self, claimed: ClaimedDelivery, until: datetime) -> None:
        """Undo the start of an attempt, for the person's hours. Raises `StaleLeaseError`."""
        self._hold(_WAIT, claimed, {"until": until})

    def compose(
        self, claimed: ClaimedDelivery, pieces: Sequence[Piece], language: str
    ) -> ClaimedDelivery:
        """Commit what all attempts send, in a disclosure's `language`. Raises `StaleLeaseError`."""
        first, *later = pieces
        mail = first.mail
        values: dict[str, object] = {
            "request": first.request,
            "keys": [piece.key for piece in later],
            "requests": [piece.request for piece in later],
            "message_id": mail and mail.message_id,
            "root": mail and mail.root,
            "refs": list(mail.refs) if mail else [],
            "subject": mail.subject if mail else "",
            "told": None if claimed.told else claimed.reply.disclosure,
            "language": language,
        }
        self._hold(_COMPOSE, claimed, values)
        return replace(claimed, reply=replace(claimed.reply, request=first.request))

    def note_may_have_arrived(self, claimed: ClaimedDelivery, *, answer_s: float) -> None:
        """Commit that it may arrive; its answer takes `answer_s`. Raises `StaleLeaseError`."""
        lease = self._lease + timedelta(seconds=answer_s)
        self._hold(_NOTE, claimed, {"status": MAY_HAVE_ARRIVED, "lease": lease})

    def end(
        self,
        claimed: ClaimedDelivery,
        state: DeliveryState,
        outcome: DeliveryOutcome | None = None,
        *,
        wait_s: float = 0.0,
        blocked: LedgerEntry | None = None,
    ) -> None:
        """Commit the end of an attempt; `outcome` None = the policy allowed none.

        `pending` and `sending` are tried again after `wait_s`. `blocked`: the provider has told
        that the person has opted out, or is gone. Raises `StaleLeaseError`: the attempt lasted
        longer than its lease.
        """
        sent = outcome if isinstance(outcome, Sent) else Sent()
        reason = None if outcome is None or isinstance(outcome, Sent) else outcome.reason
        values = {
            "state": state,
            "again": state in {DeliveryState.PENDING, DeliveryState.SENDING},
            "wait": timedelta(seconds=wait_s),
            "provider_id": sent.provider_id,
            "provider_status": reason,
            "parts": sent.parts,
        }
        if state is not DeliveryState.OPTED_OUT and blocked is None and sent.message_id is None:
            self._hold(_END, claimed, values)
            return
        own = {"id": claimed.reply.delivery_id}
        with self._database.transaction() as connection:
            self._hold_on(connection, _END, claimed, values)
            connection.execute(_TELL, {**own, "outcome": OPTED_OUT})
            if sent.message_id is not None:
                connection.execute(_RENAME, {**own, "mail_id": sent.message_id})
            if blocked is not None:
                record(connection, self._database.consent_key, blocked)

    def _hold(
        self, change: Statement, claimed: ClaimedDelivery, values: Mapping[str, object]
    ) -> None:
        with self._statement() as connection:
            self._hold_on(connection, change, claimed, values)

    @staticmethod
    def _hold_on(
        connection: Connection,
        change: Statement,
        claimed: ClaimedDelivery,
        values: Mapping[str, object],
    ) -> None:
        fence = {"id": claimed.reply.delivery_id, "token": claimed.token}
        if connection.execute(change, {**values, **fence}).one_or_none() is None:
            raise StaleLeaseError("another worker has taken this delivery over")

    def due(self, *, limit: int, grace_s: float) -> tuple[ChannelUserId, ...]:
        """Return users with deliveries due for `grace_s`; end drafts that nobody decided about."""
        values = {"limit": limit, "grace": timedelta(seconds=grace_s)}
        return tuple(ChannelUserId(row[0]) for row in self._rows(_DUE, values))
