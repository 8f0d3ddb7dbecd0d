"""What lies here as it came, and is nobody's row yet: bytes in `dead_letters`, and the inbox.

Whose it is stands only in its contents. So it is read page by page, and `belongs` says.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from worker.store.database import Database
from worker.store.sql import sql

_PAGE = 20
"""Each may have a megabyte."""
_LETTERS = sql("""
SELECT id, raw FROM dead_letters WHERE raw IS NOT NULL AND id > :after ORDER BY id LIMIT :limit
""")
_DELETE_LETTERS = sql("""
WITH gone AS (DELETE FROM dead_letters WHERE id = ANY(:ids) RETURNING 1) SELECT count(*) FROM gone
""")
_INBOX = sql("SELECT id, envelope FROM inbox WHERE id > :after ORDER BY id LIMIT :limit")
_DELETE_INBOX = sql("""
WITH gone AS (DELETE FROM inbox WHERE id = ANY(:ids) RETURNING 1) SELECT count(*) FROM gone
""")

Belongs: TypeAlias = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawEntry:
    """Something as it came. `id` is that of its row."""

    id: int
    content: bytes


class RawStore:
    """Bytes of dead letters, and envelopes of the inbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def letters(self, belongs: Belongs) -> Iterator[RawEntry]:
        """Give the dead letters whose bytes are his."""
        after = 0
        while True:
            with self._database.statement() as connection:
                rows = connection.execute(_LETTERS, {"after": after, "limit": _PAGE}).fetchall()
            if not rows:
                return
            after = rows[-1].id
            for row in rows:
                content = bytes(row.raw)
                if belongs(content):
                    yield RawEntry(id=row.id, content=content)

    def delete_letters(self, ids: Sequence[int]) -> int:
        """Delete dead letters; gives how many there were."""
        with self._database.statement() as connection:
            return int(connection.execute(_DELETE_LETTERS, {"ids": list(ids)}).scalar_one())

    def inbox(self, belongs: Belongs) -> Iterator[RawEntry]:
        """Give the envelopes of the inbox that are his."""
        after = 0
        while True:
            with self._database.statement() as connection:
                rows = connection.execute(_INBOX, {"after": after, "limit": _PAGE}).fetchall()
            if not rows:
                return
            after = rows[-1].id
            for row in rows:
                content = json.dumps(row.envelope).encode()
                if belongs(content):
                    yield RawEntry(id=row.id, content=content)

    def delete_inbox(self, ids: Sequence[int]) -> int:
        """Delete envelopes; gives how many there were.

        Waits for whoever is taking one of them out: that one has become a message then.
        """
        with self._database.statement() as connection:
            return int(connection.execute(_DELETE_INBOX, {"ids": list(ids)}).scalar_one())
