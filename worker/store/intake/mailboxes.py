"""Mailboxes: how far each is read, in the same transaction as the lock of its reader.

The lock is the mailbox's row. It is not an advisory lock, for the reason of `store/locks.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from worker.domain.email.mailbox import Place, View
from worker.store.database import Store
from worker.store.rows import value_of
from worker.store.sql import Connection, sql

QUEUE: Final = "mailbox"
"""In the place of a queue's name in dead letters."""
# A new UIDVALIDITY means that all UIDs are new; so does a server that was restored from a backup,
# with UIDs that it will give again. What was taken falls on its Message-ID; what is older than the
# last look by a day is passed over, for it was seen or was never to be answered.
_PLACE = sql("""
INSERT INTO mailboxes AS m (name, uidvalidity, last_uid, looked_at, since, filtered_to)
VALUES (:name, :uidvalidity, CASE WHEN CAST(:since AS timestamptz) IS NULL THEN :newest ELSE 0 END,
    service_now(), coalesce(CAST(:since AS timestamptz), service_now()), :newest)
ON CONFLICT (name) DO UPDATE SET uidvalidity = excluded.uidvalidity, last_uid = 0,
    since = greatest(m.since, m.looked_at - interval '1 day'), filtered_to = excluded.filtered_to
WHERE m.uidvalidity <> excluded.uidvalidity OR :anew
""")
_READ = sql("""
SELECT uidvalidity, last_uid, since, filtered_to FROM mailboxes WHERE name = :name
""")
_LOCK = sql("""
SELECT name FROM mailboxes
WHERE name = :name AND uidvalidity = :uidvalidity AND last_uid < :uid FOR UPDATE SKIP LOCKED
""")
_ADVANCE = sql("UPDATE mailboxes SET last_uid = :uid WHERE name = :name")
_LOOKED = sql("""
UPDATE mailboxes SET looked_at = service_now(), last_uid = greatest(last_uid, :uid)
WHERE name = :name AND uidvalidity = :uidvalidity
""")
_AGE = sql("""
SELECT CAST(extract(epoch FROM service_now() - looked_at) AS float8) AS age
FROM mailboxes WHERE name = :name
""")


class MailboxStore(Store):
    """Places in mailboxes."""

    def place(self, name: str, view: View, since: datetime | None, *, anew: bool = False) -> Place:
        """Return where to go on; at first behind the newest mail, or at those from `since` on.

        `anew`: the server gives UIDs again.
        """
        values = {"name": name, "uidvalidity": view.uidvalidity, "since": since}
        self._change(_PLACE, {**values, "newest": view.next_uid - 1, "anew": anew})
        return value_of(Place, self._row(_READ, values))

    @contextmanager
    def turn(self, name: str, place: Place, uid: int) -> Iterator[Connection | None]:
        """Hold the mailbox's lock for one mail; leaving it without an error passes the mail.

        None: another process holds it, or has passed the mail already.
        """
        values = {"name": name, "uidvalidity": place.uidvalidity, "uid": uid}
        with self._database.transaction() as connection:
            if connection.execute(_LOCK, values).one_or_none() is None:
                yield None
                return
            yield connection
            connection.execute(_ADVANCE, values)

    def looked(self, name: str, place: Place, uid: int) -> None:
        """Note that all mails up to `uid` were dealt with."""
        values = {"name": name, "uidvalidity": place.uidvalidity, "uid": uid}
        self._change(_LOOKED, values)

    def age_s(self, name: str) -> float | None:
        """Return the seconds since the last look at all of it; None = there was none."""
        row = self._row(_AGE, {"name": name})
        return None if row is None else float(row.age)
