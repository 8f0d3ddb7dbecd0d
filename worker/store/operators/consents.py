"""The ledger of opt-outs as operators read and change it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from worker.domain.screening.consents import LedgerEntry, Person
from worker.domain.states import ConsentSource
from worker.store.consents import Turned, address_hash, record
from worker.store.database import Store
from worker.store.rows import value_of
from worker.store.sql import sql

_PAGE = 1000
_COLUMNS = "id, scope, address, stopped, source, channel, recipient, created_at"
_HISTORY = sql(f"""
SELECT {_COLUMNS} FROM consents WHERE address_hash = :address_hash ORDER BY id
""")
_NEWEST = """NOT EXISTS (SELECT FROM consents n
                        WHERE n.address_hash = c.address_hash AND n.id > c.id)"""
_FIND = sql(f"""
SELECT {_COLUMNS} FROM consents c
WHERE {_NEWEST} AND (:everybody OR stopped)
  AND (CAST(:scope AS text) IS NULL OR scope = :scope)
  AND (CAST(:source AS text) IS NULL OR source = :source)
ORDER BY id DESC LIMIT :limit
""")
_ALL = sql(f"""
SELECT {_COLUMNS}, id AS place FROM consents c
WHERE id > :after AND {_NEWEST} ORDER BY id LIMIT :limit
""")
_WHO = sql("SELECT channel, address FROM channel_users WHERE id = :id")
_NOTE = sql("""
INSERT INTO attempt_log (event, channel_user_id, facts)
SELECT CASE WHEN :stopped THEN 'consent.stopped' ELSE 'consent.started' END, id,
    jsonb_build_object('source', CAST(:source AS text))
FROM channel_users WHERE address_group = ANY(:groups) AND address = :address
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRow:
    """A row of the ledger."""

    id: int
    scope: str
    address: str | None
    """None = the person was erased."""
    stopped: bool
    source: ConsentSource
    channel: str
    recipient: str
    created_at: datetime


class ConsentStore(Store):
    """The ledger."""

    def history(self, person: Person) -> tuple[ConsentRow, ...]:
        """Return all rows of a person, oldest first."""
        hashed = address_hash(self._database.consent_key, person.scope, person.address)
        return self._found(ConsentRow, _HISTORY, {"address_hash": hashed})

    def find(
        self,
        *,
        scope: str | None = None,
        source: str | None = None,
        everybody: bool = False,
        limit: int,
    ) -> tuple[ConsentRow, ...]:
        """Return the newest row of each person who has opted out, or of everybody."""
        values = {"scope": scope, "source": source, "everybody": everybody, "limit": limit}
        return self._found(ConsentRow, _FIND, values)

    def every(self) -> Iterator[ConsentRow]:
        """Yield the newest row of each person, page by page."""
        for row in self._pages(_ALL, {"limit": _PAGE}):
            yield value_of(ConsentRow, row)

    def address_of(self, user_id: int) -> tuple[str, str] | None:
        """Return the channel and the address of a channel user."""
        row = self._row(_WHO, {"id": user_id})
        return None if row is None else (row.channel, row.address)

    def change(self, entry: LedgerEntry, *, since: datetime | None = None) -> Turned:
        """Append an entry if it says something new, and note it for the person's channel users."""
        key, person = self._database.consent_key, entry.person
        with self._database.transaction() as connection:
            turned = record(connection, key, entry, since=since)
            if turned.before != turned.after:
                who = {"groups": list(person.groups), "address": person.address}
                what = {"stopped": entry.stopped, "source": entry.source}
                connection.execute(_NOTE, {**who, **what})
        return turned
