"""Mails that came in: what was before them, and the row of each, together with its envelope.

No look-up leaves the person's own mails, whatever ids a mail names.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from worker.domain.deliveries import OutgoingReply
from worker.domain.email.mail import AnsweredMail
from worker.domain.email.threads import Candidate, KnownMail
from worker.domain.ids import DeliveryId
from worker.domain.messages import ChannelAddress
from worker.domain.screening.consents import LedgerEntry, Person
from worker.domain.states import ConsentSource
from worker.store.consents import Turned, address_hash, record, standing
from worker.store.database import Store
from worker.store.intake.inbox import CHANNEL
from worker.store.rows import address_of, value_of
from worker.store.sql import sql

_MAX_LOOKED_AT: Final = 2000
"""Mails of the last hour among which those of one domain and subject are counted."""
_KNOWN: Final = """
SELECT message_id, recipient AS ours, address AS person, thread, root, subject,
    delivery_id AS delivery
FROM mails WHERE channel = :channel AND address = :address AND"""
# Of our own address too: a thread is of one person and one address of ours.
_BY_ID = sql(f"{_KNOWN} recipient = :recipient AND message_id = ANY(:ids)")
_BY_DELIVERY = sql(f"{_KNOWN} delivery_id = ANY(:deliveries)")
_OF_DELIVERY = sql("""
SELECT channel, recipient, address, thread FROM mails WHERE delivery_id = :delivery
""")
# The newest of those that it answers; for what a person of ours writes, the newest of the thread.
_ANSWERED = sql("""
SELECT message_id, root, refs, subject, reply_to, from_name FROM mails
WHERE channel = :channel AND recipient = :recipient AND address = :address AND thread = :thread
  AND delivery_id IS NULL AND redacted_at IS NULL
ORDER BY message_id = ANY(:ids) DESC, id DESC LIMIT 1
""")
_ARRIVED: Final = """CASE WHEN CAST(:arrived AS timestamptz) < service_now() - interval '10 minutes'
    THEN CAST(:arrived AS timestamptz) ELSE service_now() END"""
# Replies are counted by the mails that were to be answered. Not those that waited together with it
# in a mailbox that nobody read: it answers none of them. An address in a loop may change with
# each mail, its domain and subject do not; a domain alone may be that of half of all people.
_BEFORE = sql(f"""
WITH theirs AS (
    SELECT id, verdict, original, left_out, created_at FROM mails
    WHERE address = :address AND channel = :channel AND delivery_id IS NULL
      AND message_id <> :message_id AND created_at > service_now() - interval '1 hour'
), last AS (
    SELECT original, left_out FROM theirs ORDER BY id DESC LIMIT 1
)
SELECT (SELECT count(*) FROM theirs
        WHERE verdict IS NULL AND created_at < {_ARRIVED}) AS replies_to_address,
    (SELECT count(*) FROM (
        SELECT channel, address, subject, verdict, delivery_id FROM mails
        WHERE redacted_at IS NULL AND created_at > service_now() - interval '1 hour'
          AND created_at < {_ARRIVED}
          AND CAST(:loop_subject AS text) IS NOT NULL
        ORDER BY created_at DESC LIMIT :looked_at) AS newest
     WHERE channel = :channel AND split_part(address, '@', -1) = :domain
       AND subject = :loop_subject AND verdict IS NULL AND delivery_id IS NULL
    ) AS replies_to_domain,
    coalesce((SELECT original FROM last), '') AS last_text,
    coalesce((SELECT left_out FROM last), 0) AS last_left_out,
    coalesce(
        (SELECT r.text FROM deliveries d JOIN replies r ON r.id = d.reply_id
         WHERE d.id = :answers),
        (SELECT r.text FROM channel_users u JOIN turns t ON t.channel_user_id = u.id
             JOIN replies r ON r.turn_id = t.id
         WHERE u.channel = :channel AND u.recipient = :recipient AND u.address = :address
           AND u.thread = :thread ORDER BY t.id DESC LIMIT 1), '') AS parent,
    (SELECT CAST(extract(epoch FROM service_now() - finished_at) AS float8)
     FROM deliveries WHERE id = :answers) AS since_reply_s
""")
_DMARC = sql("""
SELECT count(*) AS mails, count(dmarc) AS results
FROM (SELECT channel, dmarc, delivery_id FROM mails WHERE redacted_at IS NULL
    ORDER BY created_at DESC LIMIT :limit) AS newest
WHERE channel = :channel AND delivery_id IS NULL
""")
# Both or neither: a mail that came before, by whatever way, has its envelope already.
_KEEP = sql(f"""
WITH kept AS (
    INSERT INTO mails (channel, recipient, address, thread, root, message_id, refs, subject,
        reply_to, from_name, smtp_sender, smtp_recipient, dmarc, verdict, extraction_version,
        left_out, original, raw)
    VALUES (:channel, :recipient, :address, :thread, :root, :message_id, CAST(:refs AS text[]),
        :subject, :reply_to, :from_name, :smtp_sender, :smtp_recipient, :dmarc, :verdict,
        :extraction_version, :left_out, :original, :raw)
    ON CONFLICT (channel, recipient, address, message_id) DO NOTHING
    RETURNING id
), entry AS (
    INSERT INTO inbox (envelope, task_id)
    SELECT CAST(:envelope AS jsonb), CAST(:task_id AS uuid)
    FROM kept WHERE CAST(:envelope AS text) IS NOT NULL
    RETURNING pg_notify('{CHANNEL}', '')
)
SELECT kept.id FROM kept LEFT JOIN entry ON true
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What was before a mail."""

    replies_to_address: int
    replies_to_domain: int
    last_text: str
    """The person's mail before, if it came within an hour, as are the replies."""
    last_left_out: int
    parent: str
    """Our reply that it answers, else our last one in the thread."""
    since_reply_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MailToKeep:
    """A row of `mails`; see the table."""

    who: ChannelAddress
    root: str
    message_id: str
    refs: tuple[str, ...]
    subject: str
    reply_to: str | None
    from_name: str
    smtp_sender: str | None
    smtp_recipient: str | None
    dmarc: str | None
    verdict: str | None
    extraction_version: int
    left_out: int
    original: str
    raw: bytes | None


class MailStore(Store):
    """The table `mails`, as mails come in."""

    @property
    def key(self) -> bytes:
        """The key of the marks in our mails."""
        return self._database.secret("mail")

    def known(
        self, who: ChannelAddress, candidates: Iterable[Candidate]
    ) -> tuple[dict[str, KnownMail], dict[DeliveryId, KnownMail]]:
        """Return what a mail of this person may answer: by its id, and by our delivery."""
        candidates = tuple(candidates)
        ids = [one.message_id for one in candidates if one.message_id]
        deliveries = [one.delivery for one in candidates if one.delivery]
        values = {**asdict(who), "ids": ids, "deliveries": deliveries}
        by_id = self._rows(_BY_ID, values) if ids else ()
        by_delivery = self._rows(_BY_DELIVERY, values) if deliveries else ()
        return (
            {row.message_id: value_of(KnownMail, row) for row in by_id},
            {row.delivery: value_of(KnownMail, row) for row in by_delivery},
        )

    def of_delivery(self, delivery: DeliveryId) -> ChannelAddress | None:
        """Return to whom a mail of ours went; None = it is none."""
        row = self._row(_OF_DELIVERY, {"delivery": delivery})
        return None if row is None else address_of(row)

    def answered(self, reply: OutgoingReply) -> AnsweredMail | None:
        """Return the mail that a reply answers; None = there is none, or it is redacted."""
        values = {**asdict(reply.to), "ids": list(reply.message_ids)}
        return next(iter(self._found(AnsweredMail, _ANSWERED, values)), None)

    def before(
        self,
        who: ChannelAddress,
        message_id: str,
        *,
        answers: DeliveryId | None,
        loop_subject: str | None,
        arrived: datetime | None,
    ) -> Before:
        """Return what was before. `loop_subject`: of a reply; None = it can be no loop.

        `arrived`: at its server; None = just now.
        """
        values = {
            **asdict(who),
            "message_id": message_id,
            "domain": who.address.rpartition("@")[2],
            "answers": answers,
            "loop_subject": loop_subject,
            "arrived": arrived,
            "looked_at": _MAX_LOOKED_AT,
        }
        return value_of(Before, self._rows(_BEFORE, values)[0])

    def only_bounced(self, person: Person) -> bool:
        """Return whether nothing but bounces keeps us from writing to somebody."""
        hashed = address_hash(self._database.consent_key, person.scope, person.address)
        with self._statement() as connection:
            return standing(connection, hashed).keys() == {ConsentSource.BOUNCE}

    def dmarc_results(self, channel: str, limit: int) -> tuple[int, int]:
        """Return how many of the newest mails came in, and how many of those have a result."""
        row = self._rows(_DMARC, {"channel": channel, "limit": limit})[0]
        return row.mails, row.results

    def keep(
        self,
        mail: MailToKeep,
        *,
        entry: tuple[UUID, str] | None = None,
        change: LedgerEntry | None = None,
    ) -> tuple[int | None, Turned | None]:
        """Commit a mail, its envelope and its entry of the ledger; None = it was there before."""
        values = asdict(mail) | asdict(mail.who) | {"refs": list(mail.refs)}
        values |= {"task_id": entry and entry[0], "envelope": entry and entry[1]}
        if change is None:
            row = self._row(_KEEP, values)
            return (None if row is None else row.id), None
        with self._database.transaction() as connection:
            row = connection.execute(_KEEP, values).one_or_none()
            if row is None:
                return None, None
            return row.id, record(connection, self._database.consent_key, change)
