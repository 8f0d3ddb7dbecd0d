"""Messages of producers that speak SQL: taken out of `inbox` and accepted, in one transaction.

One worker drains at a time, so that what one program put in one after the other is accepted like
that. Whoever comes second finds nothing to do.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from worker.domain.messages import Accepted, NewMessage
from worker.store.database import Database
from worker.store.dead_letters import keep_on
from worker.store.intake.messages import accept_on
from worker.store.sql import Connection, Row, sql

QUEUE = "inbox"
"""Where its dead letters say that they came from."""
MAX_BATCH = 50
"""So many are accepted in one transaction: their channel users wait for no longer."""

# Held until the end of the transaction, and lost with it; 4871 is an arbitrary number.
_ALONE = sql("SELECT pg_try_advisory_xact_lock(4871, 1)")
_OLDEST = sql("SELECT id, envelope FROM inbox ORDER BY id LIMIT :limit")
_DELETE = sql("DELETE FROM inbox WHERE id = ANY(:ids)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An envelope that is none; `detail` names the field and the mend, never a value."""

    reason: str
    detail: str


Judge: TypeAlias = Callable[[object], NewMessage | Refused]


class InboxStore:
    """The table `inbox`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def drain(self, judge: Judge, *, limit: int = MAX_BATCH) -> tuple[Accepted, ...] | None:
        """Accept the oldest, at most `limit`; None = nothing lies there, or another worker drains.

        `judge` runs inside the transaction: it must be pure. Raises `PermanentError` where Postgres
        refuses one of them: nothing was taken then.
        """
        with self._database.transaction() as connection:
            rows = _take(connection, limit)
            if not rows:
                return None
            return tuple(
                accepted
                for row in rows
                if (accepted := _accept(connection, row, judge(row.envelope))) is not None
            )

    def set_oldest_aside(self, refused: Refused) -> None:
        """Make a dead letter of the oldest, which no statement takes."""
        with self._database.transaction() as connection:
            for row in _take(connection, 1):
                _accept(connection, row, refused)


def _take(connection: Connection, limit: int) -> Sequence[Row]:
    if not connection.execute(_ALONE).scalar_one():
        return ()
    rows = connection.execute(_OLDEST, {"limit": limit}).fetchall()
    connection.execute(_DELETE, {"ids": [row.id for row in rows]})
    return rows


def _accept(connection: Connection, row: Row, judged: NewMessage | Refused) -> Accepted | None:
    if isinstance(judged, NewMessage):
        return accept_on(connection, judged, starts_itself=False)
    raw = json.dumps(row.envelope, ensure_ascii=False).encode()
    keep_on(connection, reason=judged.reason, raw=raw, detail=judged.detail, queue=QUEUE)
    return None
