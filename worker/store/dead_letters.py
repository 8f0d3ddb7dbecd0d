"""What no retry can help, kept with its reason."""

from sqlalchemy import text

from worker.store.database import Database

_KEEP = text("""
INSERT INTO dead_letters (kind, raw, queue, reason, detail, created_at)
VALUES ('envelope', :raw, :queue, :reason, :detail, service_now())
""")


class DeadLetterStore:
    """Dead letters."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, *, reason: str, raw: bytes, detail: str, queue: str) -> None:
        """Commit bytes that are no valid envelope. Raises `RetryableError` when Postgres is away.

        `detail` names the field and the mend, never a value.
        """
        values = {"raw": raw, "queue": queue, "reason": reason, "detail": detail}
        with self._database.statement() as connection:
            connection.execute(_KEEP, values)
