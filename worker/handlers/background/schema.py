"""Whether a process may start on the tables as they are: docs/how-to/upgrade.md has the rule."""

import time
from collections.abc import Callable
from typing import Final

from worker.domain.errors import SCHEMA_BEHIND, PermanentError, RetryableError
from worker.observability.logs import log
from worker.store.revisions import RevisionStore, revisions

_PAUSE_S: Final = 1.0


def start_on_postgres(
    start: Callable[[], object], *, before: Callable[[], object] = lambda: None
) -> None:
    """Call `start`, after `before`, until Postgres is there. Raises `SystemExit` if it refuses."""
    while True:
        before()
        try:
            start()
        except RetryableError as error:
            asked = "is it running, and is DATABASE_URL right? `worker doctor` shows more"
            log.warning("worker.waits_for_postgres", error=str(error), fix=error.fix or asked)
            time.sleep(_PAUSE_S)
        except PermanentError as error:
            command = "migrate" if error.code == SCHEMA_BEHIND else "doctor"
            raise SystemExit(f"worker: {error}: run `worker {command}`") from None
        else:
            return


def check_schema(store: RevisionStore) -> None:
    """Raise `PermanentError` if migrations are missing; log newer ones, usual in an upgrade."""
    current, known = store.revision(), revisions()
    if not known or current == known[-1]:
        return
    if current is None or current in known:
        at = current or "nothing yet"
        found = f"the database of DATABASE_URL is at {at}, this version needs {known[-1]}"
        raise PermanentError(found, code=SCHEMA_BEHIND)
    fix = "replace this process by the version that made it; one in between must not be left out"
    log.warning("worker.schema_ahead", at=current, known=known[-1], fix=fix)
