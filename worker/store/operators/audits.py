"""Who has looked at what in the console, and has done what; and the sessions, which are rows of it.

    login ──▶ views and actions ──▶ over after `SESSION_S`, or with a logout of the same person

A view is recorded before it is shown, and an action before it is done, in the statement that checks
the session.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Final

from worker.store.database import Store
from worker.store.sql import sql

SESSION_S: Final = 8 * 3600.0
"""A working day: nobody stays logged in over night."""


class Subject(StrEnum):
    """What a number in an address of the console names."""

    NOTHING = "nothing"
    PERSON = "person"
    MESSAGE = "message"
    REPLY = "reply"
    DEAD_LETTER = "dead_letter"


_PERSON_OF: Final = {
    Subject.NOTHING: "CAST(NULL AS bigint)",
    Subject.PERSON: "CAST(:subject AS bigint)",
    Subject.MESSAGE: "(SELECT channel_user_id FROM messages WHERE id = :subject)",
    Subject.REPLY: """(SELECT t.channel_user_id FROM replies r JOIN turns t ON t.id = r.turn_id
        WHERE r.id = :subject)""",
    Subject.DEAD_LETTER: """(SELECT coalesce(m.channel_user_id, d.channel_user_id)
        FROM dead_letters l LEFT JOIN messages m ON m.id = l.message_row_id
        LEFT JOIN deliveries d ON d.id = l.delivery_id WHERE l.id = :subject)""",
}
_RECORD: Final = {
    subject: sql(f"""
INSERT INTO audits (who, action, channel_user_id, subject_id)
SELECT session.who, :action, {person}, {"NULL" if subject is Subject.PERSON else ":subject"}
FROM audits session
WHERE session.id = :login AND session.who = :who AND session.action = 'login'
  AND session.at > service_now() - :lasts
  AND NOT EXISTS (SELECT FROM audits ended WHERE ended.who = session.who
      AND ended.action = 'logout' AND ended.id > session.id)
RETURNING id
""")
    for subject, person in _PERSON_OF.items()
}
_LOG_IN: Final = sql("INSERT INTO audits (who, action) VALUES (:who, 'login') RETURNING id")


class AuditStore(Store):
    """The rows of `audits`."""

    @property
    def key(self) -> bytes:
        """The key that sessions are signed with."""
        return self._database.secret("console")

    def log_in(self, who: str) -> int:
        """Begin a session; returns its number."""
        with self._statement() as connection:
            return int(connection.execute(_LOG_IN, {"who": who}).scalar_one())

    def record(
        self, login: int, who: str, action: str, kind: Subject, subject: int | None = None
    ) -> bool:
        """Record a view or an action; False = the session is over, and nothing was recorded."""
        lasts = timedelta(seconds=SESSION_S)
        values = {"login": login, "who": who, "action": action, "subject": subject, "lasts": lasts}
        return self._row(_RECORD[kind], values) is not None
