"""The mail that a reply answers: what its headers are made of."""

from worker.domain.deliveries import OutgoingReply
from worker.domain.email.replies import AnsweredMail
from worker.store.database import Store
from worker.store.rows import value_of
from worker.store.sql import sql

# The newest of those that it answers; for what a person of ours writes, the newest of the thread.
_ANSWERED = sql("""
SELECT message_id, root, refs, subject, reply_to, from_name FROM mails
WHERE channel = :channel AND recipient = :recipient AND address = :address AND thread = :thread
  AND delivery_id IS NULL AND redacted_at IS NULL
ORDER BY message_id = ANY(:ids) DESC, id DESC LIMIT 1
""")


class AnsweredMailStore(Store):
    """Reads the mails that were received."""

    def answered(self, reply: OutgoingReply) -> AnsweredMail | None:
        """Return the mail; None = there is none, or it is redacted."""
        who = reply.to
        values = {
            "channel": who.channel,
            "recipient": who.recipient,
            "address": who.address,
            "thread": who.thread,
            "ids": list(reply.message_ids),
        }
        row = self._row(_ANSWERED, values)
        return None if row is None else value_of(AnsweredMail, row, refs=tuple(row.refs))
