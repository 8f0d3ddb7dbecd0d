"""Accepts inbound messages: once per channel user and message_id, in order of acceptance."""

from dataclasses import replace
from datetime import timedelta

from worker.domain.ids import MessageRowId
from worker.domain.messages import Accepted, NewMessage
from worker.domain.screening.consents import OPTED_OUT
from worker.domain.states import WAITING, MessageState, ended_as
from worker.store.consents import address_hash, record, stopped
from worker.store.database import Store
from worker.store.limits.unanswered import end_messages
from worker.store.rows import PENDING, PLACE_IN_ORDER, values_of_message
from worker.store.sql import Connection, sql

# One statement, so one transaction and one round trip. `due_at` is unchanged while a turn is open:
# the end of the turn sets it to `waiting_due_at`. All decisions read the locked row, never the
# snapshot of another table. If the same message_id comes twice at the same instant, the second one
# uses up a seq and marks the user as waiting; the next claim finds that nothing waits.
# Whether a user is surplus is only a place in the queue: parallel messages may count one less.
_ACCEPT = sql(f"""
WITH known AS (
    SELECT m.id, m.channel_user_id, m.envelope = CAST(:envelope AS jsonb) AS same
    FROM channel_users u JOIN messages m ON m.channel_user_id = u.id
    WHERE u.channel = :channel AND u.recipient = :recipient AND u.address = :address
      AND u.thread = :thread AND m.message_id = :message_id
), conflict AS (
    UPDATE messages SET conflicts = conflicts + 1 FROM known
    WHERE messages.id = known.id AND NOT known.same
), accepted AS (
    INSERT INTO channel_users AS u
        (channel, recipient, address, thread, address_group, surplus, agent, next_seq,
         waiting_since, waiting_due_at, due_at, woken_at)
    SELECT :channel, :recipient, :address, :thread, :group,
           :surplus OR :per_address <= (SELECT count(*) FROM (SELECT FROM channel_users other
                   WHERE other.address_group = :group AND other.address = :address
                     AND other.due_at IS NOT NULL AND other.diverged_at IS NULL
                     AND NOT other.surplus LIMIT :per_address) AS counted)
               OR :per_group <= (SELECT count(*) FROM (SELECT FROM channel_users other
                   WHERE other.address_group = :group
                     AND other.due_at IS NOT NULL AND other.diverged_at IS NULL
                     AND NOT other.surplus LIMIT :per_group) AS counted),
           :agent, 2, service_now(), service_now() + :hold, service_now() + :hold,
           CASE WHEN :starts_itself THEN service_now() END
    WHERE NOT EXISTS (SELECT FROM known)
    ON CONFLICT (channel, recipient, address, thread) DO UPDATE SET
        agent = excluded.agent,
        address_group = excluded.address_group,
        surplus = CASE WHEN u.due_at IS NULL THEN excluded.surplus ELSE u.surplus END,
        next_seq = u.next_seq + 1,
        waiting_since = coalesce(u.waiting_since, service_now()),
        waiting_due_at = least(
            greatest(u.waiting_due_at, excluded.waiting_due_at),
            coalesce(u.waiting_since, service_now()) + :max_wait),
        due_at = CASE WHEN u.open_turn_id IS NOT NULL THEN u.due_at ELSE least(
            greatest(u.waiting_due_at, excluded.waiting_due_at),
            coalesce(u.waiting_since, service_now()) + :max_wait) END,
        woken_at = CASE WHEN :starts_itself AND u.open_turn_id IS NULL AND u.waiting_since IS NULL
            THEN service_now() ELSE u.woken_at END
    RETURNING u.id, u.next_seq - 1 AS seq, {PLACE_IN_ORDER} AS order_at, u.due_at, u.taken_until,
        u.surplus,
        u.open_turn_id IS NULL AND u.waiting_since = service_now() AS first_in_line
), inserted AS (
    INSERT INTO messages
        (channel_user_id, message_id, seq, order_at, agent, envelope, expires_at, accepted_at,
         late, state, outcome, finished_at, dropped_at, traceparent, task_id)
    SELECT id, :message_id, seq, order_at, :agent,
           CAST(:envelope AS jsonb), :expires_at, service_now(),
           coalesce(order_at < taken_until, false),
           CASE WHEN skipped IS NULL THEN 'pending' ELSE 'skipped' END, skipped,
           ended_at, ended_at, :traceparent,
           CAST(:task_id AS uuid)
    FROM accepted, LATERAL (SELECT coalesce(:skip, CASE WHEN {stopped()} THEN 'opted_out'
        WHEN :max_pending <= (
        SELECT count(*) FROM (SELECT FROM messages waiting
            WHERE waiting.channel_user_id = accepted.id AND {PENDING}
            LIMIT :max_pending) AS counted) THEN 'overflow' END) AS skipped) AS verdict,
        LATERAL (SELECT CASE WHEN skipped IS NOT NULL THEN service_now() END AS ended_at) AS ended
    ON CONFLICT (channel_user_id, message_id) DO NOTHING
    RETURNING id, outcome
)
SELECT inserted.id AS id, accepted.id AS user_id, true AS fresh, false AS conflicting,
       accepted.first_in_line, accepted.surplus,
       CAST(greatest(extract(epoch FROM accepted.due_at - service_now()), 0) AS float8) AS due_in_s,
       inserted.outcome AS skipped
FROM inserted, accepted
UNION ALL
SELECT id, channel_user_id, false, NOT same, false, false, 0, NULL FROM known
""")
_RESULT = sql("""
SELECT state, coalesce(outcome, state) AS outcome, turn_id FROM messages WHERE id = :id
""")


class MessageStore(Store):
    """Inbound messages."""

    def result(self, message: MessageRowId) -> str:
        """Return how a message has ended so far, as the result of its task."""
        row = self._row(_RESULT, {"id": message})
        if row is None or row.state in {MessageState.PENDING, MessageState.IN_TURN}:
            return f"{WAITING} message={message}"
        turn = "" if row.turn_id is None else f" turn={row.turn_id}"
        return f"{ended_as(row.state, row.outcome)} message={message}{turn}"

    def accept(
        self, message: NewMessage, *, starts_itself: bool, traceparent: str | None = None
    ) -> Accepted:
        """Commit one message; a repetition changes nothing.

        `starts_itself`: the caller has capacity to start the turn, so that sweepers need not.
        `traceparent`: W3C trace context of the acceptance; None = not traced.
        """
        key = self._database.consent_key
        alone = message.consent is None and message.service is None
        opened = self._database.statement if alone else self._database.transaction
        with opened() as connection:
            return accept_on(
                connection, message, key, starts_itself=starts_itself, traceparent=traceparent
            )


def accept_on(
    connection: Connection,
    message: NewMessage,
    key: bytes,
    *,
    starts_itself: bool,
    traceparent: str | None,
) -> Accepted:
    """Accept a message in the caller's transaction, if any; `key`: that of the opt-outs' ledger."""
    hashed = address_hash(key, message.scope, message.who.address)
    values = values_of_message(message, traceparent) | {
        "address_hash": hashed,
        "hold": timedelta(seconds=message.hold_s),
        "max_wait": timedelta(seconds=max(message.max_wait_s, message.hold_s)),
        "starts_itself": starts_itself,
        "per_address": message.fairness.turns_per_address,
        "per_group": message.fairness.turns_per_group,
        "max_pending": message.max_pending,
        "skip": message.skip,
    }
    row = connection.execute(_ACCEPT, values).one_or_none()
    # The same message_id was committed while this statement waited for the row: the snapshot that
    # `known` reads was older. A new statement sees it.
    if row is None:
        row = connection.execute(_ACCEPT, values).one()
    accepted = Accepted(**row._asdict())
    if not accepted.fresh or message.skip is None:
        return accepted
    change, service, outcome = message.consent, message.service, message.skip
    if change is not None:
        turned = record(connection, key, change, since=message.sent_at)
        if turned.before == turned.after:
            # There is nothing to confirm. An opt-in that lifts nothing leaves them opted out.
            service = None
            outcome = OPTED_OUT if turned.after and not change.stopped else outcome
            change = None
    if service is not None or outcome != message.skip:
        mine = [accepted.id]
        # Of a mail, it would be by its sender's clock, and mails may take an hour.
        said_at = message.sent_at if message.scope == "telephone" else None
        end_messages(
            connection,
            accepted.user_id,
            mine,
            outcome,
            service=service,
            address_hash=hashed,
            said_at=said_at,
        )
    return replace(accepted, skipped=outcome, consent=change)
