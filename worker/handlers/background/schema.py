"""Whether a worker may start on the tables as they are: docs/how-to/upgrade.md has the rule."""

from worker.domain.errors import SCHEMA_BEHIND, PermanentError
from worker.observability.logs import log
from worker.store.revisions import RevisionStore, revisions


def check_schema(store: RevisionStore) -> None:
    """Raise `PermanentError` if migrations are missing, and log if there are newer ones.

    Newer ones are usual: an upgrade migrates first, and replaces the workers afterwards.
    """
    current, known = store.revision(), revisions()
    if not known or current == known[-1]:
        return
    if current is None or current in known:
        at = current or "nothing yet"
        found = f"the database of DATABASE_URL is at {at}, this version needs {known[-1]}"
        raise PermanentError(found, code=SCHEMA_BEHIND)
    fix = "replace this worker by the version that made it; one in between must not be left out"
    log.warning("worker.schema_ahead", at=current, known=known[-1], fix=fix)
