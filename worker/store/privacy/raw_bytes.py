"""Raw bytes that no row ties to a user: dead letters and the inbox.

Only their content says to whom they belong, so they are scanned page by page; `belongs` decides.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

from message_worker_client.envelope.wire import MAX_ENTRY_BYTES
from worker.store.database import Store
from worker.store.sql import sql

Table: TypeAlias = Literal["dead_letters", "inbox"]
TABLES: tuple[Table, ...] = ("dead_letters", "inbox")
_PAGE = 20
"""Small: an entry may have a megabyte."""
# As bytes: the driver would parse `jsonb`, and fail for one nested deeper than its stack.
_CONTENT: dict[Table, str] = {
    "dead_letters": "raw",
    # Of a row beyond what is accepted, the first bytes: they become its dead letter.
    "inbox": f"substring(convert_to(CAST(envelope AS text), 'UTF8') FROM 1 FOR {MAX_ENTRY_BYTES})",
}
_READ = {
    table: sql(f"""
SELECT id AS place, {content} AS content FROM {table}
WHERE {content} IS NOT NULL AND id > :after ORDER BY id LIMIT :limit
""")
    for table, content in _CONTENT.items()
}
# The notice of a refusal would have nothing to tell any more.
_NOTICES = """
WITH notices AS (DELETE FROM deliveries
    WHERE id IN (SELECT notice_id FROM dead_letters WHERE id = ANY(:ids)))
"""
_DELETE = {
    table: sql(f"{_NOTICES * (table == 'dead_letters')} DELETE FROM {table} WHERE id = ANY(:ids)")
    for table in _CONTENT
}


class RawStore(Store):
    """Bytes of dead letters, and envelopes of the inbox, each with the id of its row."""

    def scan(self, table: Table, belongs: Callable[[bytes], bool]) -> Iterator[tuple[int, bytes]]:
        """Yield the rows of a table whose bytes belong to a user."""
        for row in self._pages(_READ[table], {"limit": _PAGE}):
            if belongs(row.content):
                yield row.place, row.content

    def delete_rows(self, table: Table, ids: Sequence[int]) -> int:
        """Delete rows, and return their number.

        It waits for a worker that is draining one of the inbox, which has become a message then.
        """
        return self._change(_DELETE[table], {"ids": list(ids)})
