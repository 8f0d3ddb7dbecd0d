"""What became of a message that the gateway gave an id."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from worker.store.database import Store
from worker.store.sql import sql

_OF_GATEWAY: Final = "get_byte(uuid_send(task_id), 6) >> 4 = 5"
"""The condition of the indexes."""
_FIND = sql(f"""
SELECT * FROM (
    SELECT 1 AS place, m.state, m.outcome, CASE WHEN d.held_for IS NULL
            OR (d.reviewed_at IS NOT NULL AND d.state <> 'rejected') THEN r.text END AS reply,
        d.state AS delivery, d.receipt, m.accepted_at, m.finished_at
    FROM (SELECT * FROM messages WHERE task_id = :id AND {_OF_GATEWAY} LIMIT 1) AS m
        LEFT JOIN replies r ON r.turn_id = m.turn_id LEFT JOIN deliveries d ON d.reply_id = r.id
    UNION ALL
    (SELECT 2, 'queued', NULL, NULL, NULL, NULL, NULL, NULL
    FROM inbox WHERE task_id = :id AND {_OF_GATEWAY} LIMIT 1)
    UNION ALL
    (SELECT 3, 'refused', reason, NULL, NULL, NULL, NULL, created_at
    FROM dead_letters WHERE task_id = :id AND {_OF_GATEWAY} LIMIT 1)
) AS found ORDER BY place LIMIT 1
""")


class MessageById(Store):
    """Messages by the gateway's ids."""

    def find(self, given: UUID) -> dict[str, Any] | None:
        """Return state, outcome and reply, as JSON has them; None = no message has the id."""
        row = self._row(_FIND, {"id": given})
        if row is None:
            return None
        found = row._asdict()
        del found["place"]
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in found.items()
        }
