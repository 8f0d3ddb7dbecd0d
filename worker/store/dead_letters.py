"""Dead letters: messages that no retry can help, kept until a person replays or dismisses them.

Those of refused envelopes are inserted here. Those of messages and deliveries are inserted with
their end, in `turns/settle.py` and `delivery/deliveries.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NotRequired, TypedDict, Unpack
from uuid import UUID

from worker.domain.ids import ChannelUserId, DeadLetterId, DeliveryId, MessageRowId
from worker.domain.messages import UNKNOWN_SENDER, Sender
from worker.domain.states import DeadLetterKind, Resolution
from worker.store.database import Database, Store
from worker.store.rows import NOTICE
from worker.store.sql import Connection, sql

_KEEP = sql(f"""
WITH {NOTICE}
INSERT INTO dead_letters
    (kind, raw, queue, reason, detail, created_at, task_id, sender, names, notice_id)
VALUES ('envelope', :raw, :queue, :reason, :detail, service_now(), CAST(:task_id AS uuid),
    CAST(:sender AS jsonb), CAST(:names AS jsonb), (SELECT id FROM notice))
""")
_SELECT = """
SELECT l.id, l.kind, l.message_row_id AS message, l.delivery_id AS delivery, l.raw, l.queue,
    l.reason, l.detail, l.created_at, l.resolution, l.task_id, l.sender,
    coalesce(m.channel_user_id, d.channel_user_id) AS "user"
FROM dead_letters l
LEFT JOIN messages m ON m.id = l.message_row_id
LEFT JOIN deliveries d ON d.id = l.delivery_id
"""
_LIST = sql(
    _SELECT
    + """
WHERE (:resolved OR l.resolution IS NULL)
  AND (CAST(:reason AS text) IS NULL OR l.reason = :reason)
ORDER BY l.id LIMIT :limit"""
)
_UNRESOLVED = sql("""
SELECT id FROM dead_letters
WHERE resolution IS NULL AND (CAST(:reason AS text) IS NULL OR reason = :reason) ORDER BY id
""")
_GET = sql(_SELECT + " WHERE l.id = :id")
# The resolution is written first: of two people who replay at the same time, one continues.
_RESOLVE = sql("""
UPDATE dead_letters SET resolution = :resolution, resolved_at = service_now()
WHERE id = :id AND resolution IS NULL RETURNING id
""")
_REVIVE_MESSAGE = sql("""
WITH message AS (
    UPDATE messages SET state = 'pending', outcome = NULL, finished_at = NULL, turn_id = NULL,
        dropped_at = NULL, alone = true
    WHERE id = :message_row_id AND state = 'dead' RETURNING channel_user_id
)
UPDATE channel_users u SET waiting_since = coalesce(waiting_since, service_now()),
    waiting_due_at = service_now(), woken_at = NULL,
    due_at = CASE WHEN open_turn_id IS NULL THEN service_now() ELSE due_at END
FROM message WHERE u.id = message.channel_user_id
""")
_REVIVE_DELIVERY = sql("""
UPDATE deliveries SET state = 'pending', due_at = service_now(), finished_at = NULL,
    created_at = service_now(), counts_from = NULL, attempts = 0, first_attempt_at = NULL
WHERE id = :delivery_id AND state = 'failed'
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One dead letter. Exactly one of `message`, `delivery` and `raw` is set."""

    id: DeadLetterId
    kind: DeadLetterKind
    reason: str
    detail: str
    queue: str
    created_at: datetime
    user: ChannelUserId | None
    """None = it never became a message."""
    message: MessageRowId | None
    delivery: DeliveryId | None
    resolution: Resolution | None
    task_id: UUID | None
    """The Celery task that brought it, as logs and Flower have it; None = none, or not known."""
    sender: dict[str, str] | None
    """Headers of its sender: `task`, `origin`, `lang`, `traceparent`."""
    raw: bytes | None
    """The bytes as they arrived: personal data, never for a log."""


class KeptEntry(TypedDict):
    """Bytes that are not a valid envelope."""

    reason: str
    raw: bytes
    detail: str
    """It names the field and the fix, never the value."""
    queue: str
    sender: NotRequired[Sender]
    names: NotRequired[Mapping[str, str] | None]
    """Of the message, as its producer gave them and `message_outcomes` has them; None = unknown."""
    route: NotRequired[str | None]
    """The way out that tells the producer of it; None = none does."""


class DeadLetterStore(Store):
    """Dead letters. `refusals`: see `Routing`."""

    def __init__(self, database: Database, *, refusals: str | None = None) -> None:
        super().__init__(database)
        self._refusals = refusals

    def keep(self, **letter: Unpack[KeptEntry]) -> None:
        """Commit bytes that are not a valid envelope, see `keep_on`. Raises `DatabaseAwayError`."""
        letter.setdefault("route", self._refusals)
        with self._database.statement() as connection:
            keep_on(connection, **letter)

    def find(
        self, *, reason: str | None = None, resolved: bool = False, limit: int = 100
    ) -> tuple[DeadLetter, ...]:
        """Return dead letters, oldest first. `resolved`: also those replayed or dismissed."""
        values = {"reason": reason, "resolved": resolved, "limit": limit}
        return self._found(DeadLetter, _LIST, values)

    def unresolved(self, reason: str | None) -> list[DeadLetterId]:
        """Return the ids of all that are open, or of those with this reason; oldest first."""
        return [DeadLetterId(row.id) for row in self._rows(_UNRESOLVED, {"reason": reason})]

    def get(self, letter: DeadLetterId) -> DeadLetter | None:
        """Return one dead letter."""
        return next(iter(self._found(DeadLetter, _GET, {"id": letter})), None)

    def resolve(self, letter: DeadLetterId, resolution: Resolution) -> bool:
        """Close a dead letter for good; False = it is closed already."""
        return self._row(_RESOLVE, {"id": letter, "resolution": resolution}) is not None

    def revive(self, letter: DeadLetter) -> bool:
        """Make a dead message, for a turn of its own, or delivery pending; False = it is closed."""
        statement = _REVIVE_MESSAGE if letter.message is not None else _REVIVE_DELIVERY
        values = {"message_row_id": letter.message, "delivery_id": letter.delivery}
        with self._database.transaction() as connection:
            resolved = {"id": letter.id, "resolution": Resolution.REPLAYED}
            if connection.execute(_RESOLVE, resolved).one_or_none() is None:
                return False
            connection.execute(statement, values)
        return True


def keep_on(connection: Connection, **letter: Unpack[KeptEntry]) -> None:
    """Insert a dead letter within a transaction of the caller."""
    sender, names = letter.get("sender", UNKNOWN_SENDER), letter.get("names")
    as_json = None if names is None else json.dumps(dict(names))
    # No producer waits for an entry that names neither its message nor its task.
    has_sender = names is not None or sender.task_id is not None
    values = {
        **letter,
        "task_id": sender.task_id,
        "sender": json.dumps(dict(sender.headers)) if sender.headers else None,
        "names": as_json,
        "route": letter.get("route") if has_sender else None,
        "place": as_json or sender.task_id or "",
    }
    connection.execute(_KEEP, values)
