"""Raw bytes that no row ties to a user: dead letters and the inbox.

Only their content says to whom they belong, so they are scanned page by page; `belongs` decides.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from worker.store.database import Database
from worker.store.sql import Statement, sql

_PAGE = 20
"""Small: an entry may have a megabyte."""
_LETTERS = sql("""
SELECT id, raw AS content FROM dead_letters WHERE raw IS NOT NULL AND id > :after
ORDER BY id LIMIT :limit
""")
_DELETE_LETTERS = sql("DELETE FROM dead_letters WHERE id = ANY(:ids)")
_INBOX = sql("SELECT id, envelope AS content FROM inbox WHERE id > :after ORDER BY id LIMIT :limit")
_DELETE_INBOX = sql("DELETE FROM inbox WHERE id = ANY(:ids)")

Belongs: TypeAlias = Callable[[bytes], bool]


class RawStore:
    """Bytes of dead letters, and envelopes of the inbox, each with the id of its row."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def letters(self, belongs: Belongs) -> Iterator[tuple[int, bytes]]:
        """Yield the dead letters whose bytes belong to a user."""
        return self._scan(_LETTERS, belongs)

    def inbox(self, belongs: Belongs) -> Iterator[tuple[int, bytes]]:
        """Yield the envelopes of the inbox that belong to a user."""
        return self._scan(_INBOX, belongs)

    def _scan(self, statement: Statement, belongs: Belongs) -> Iterator[tuple[int, bytes]]:
        after = 0
        while True:
            with self._database.statement() as connection:
                rows = connection.execute(statement, {"after": after, "limit": _PAGE}).fetchall()
            if not rows:
                return
            after = rows[-1].id
            for row_id, raw in rows:
                # `jsonb` arrives parsed, `bytea` as bytes.
                content = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
                if belongs(content):
                    yield row_id, content

    def delete_letters(self, ids: Sequence[int]) -> int:
        """Delete dead letters, and return their number."""
        with self._database.statement() as connection:
            return connection.execute(_DELETE_LETTERS, {"ids": list(ids)}).rowcount

    def delete_inbox(self, ids: Sequence[int]) -> int:
        """Delete envelopes, and return their number.

        It waits for a worker that is draining one of them, which has become a message then.
        """
        with self._database.statement() as connection:
            return connection.execute(_DELETE_INBOX, {"ids": list(ids)}).rowcount
