"""The migrations that this version brings, and the one that a database is at.

Imports neither Alembic nor the reports, which takes time.
"""

from pathlib import Path

from worker.domain.errors import PermanentError
from worker.store.database import Store
from worker.store.sql import sql

_STATE = sql("""
SELECT to_regclass('alembic_version') IS NOT NULL AS migrated,
    current_setting('server_encoding') = 'UTF8' AS in_utf8
""")
_REVISION = sql("SELECT version_num FROM alembic_version")


class RevisionStore(Store):
    """What Alembic wrote."""

    def revision(self) -> str | None:
        """Return the database's migration; None = none. Raises `PermanentError` if not UTF-8."""
        state = self._rows(_STATE)[0]
        if not state.in_utf8:
            raise PermanentError(
                "the database does not store UTF-8: create one with ENCODING 'UTF8'"
            )
        found = self._row(_REVISION) if state.migrated else None
        return None if found is None else str(found[0])


def revisions() -> list[str]:
    """Return all in order; none if the files are missing."""
    files = (migrations_folder() / "versions").glob("[0-9]*_*.py")
    return sorted(file.name.partition("_")[0] for file in files)


def migrations_folder() -> Path:
    """Return the folder of the migrations: the checkout's, or that of the wheel."""
    root = Path(__file__).parents[2]
    return root / "migrations" if (root / "alembic.ini").exists() else root / "worker/migrations"
