"""Whether a database is at the newest migration."""

from collections.abc import Iterator
from contextlib import contextmanager

from worker.bootstrap.reports import open_database
from worker.cli.errors import CommandError, MisuseError
from worker.config.settings import Settings
from worker.domain.errors import DatabaseAwayError
from worker.store import revisions as store_revisions
from worker.store.revisions import RevisionStore


@contextmanager
def address_in(settings: Settings) -> Iterator[str]:
    """Yield the address for migrations: past the pooler, if there is one."""
    try:
        yield settings.listen_database_url or settings.database_url
    except DatabaseAwayError as error:
        if settings.listen_database_url:
            error.setting = "LISTEN_DATABASE_URL"
        raise


def require_newest(database_url: str) -> None:
    """Raise `CommandError` unless the database is at the newest migration."""
    fix = "run `worker migrate`, or `worker up --migrate`"
    if wrong := wrong_with(revision_of(database_url), fix):
        raise MisuseError(wrong)


def wrong_with(current: str | None, fix: str = "run `worker migrate`") -> str | None:
    """Return one line with the fix unless `current` is the newest migration; None = it is."""
    *older, head = revisions()
    if current == head:
        return None
    at = f"the database of DATABASE_URL is at {current or 'nothing yet'}"
    if current in {None, *older}:
        return f"{at}, this version needs {head}: {fix}"
    return f"{at}, ahead of this version ({head}): run the version that made it, or a newer one"


def revision_of(database_url: str) -> str | None:
    """Return the database's migration. Raises `RetryableError` if Postgres is away."""
    with open_database(database_url) as database:
        return RevisionStore(database).revision()


def revisions() -> list[str]:
    """Return all migrations in order. Raises `CommandError` if there are none."""
    found = store_revisions.revisions()
    if not found:
        raise CommandError("there are no migrations in migrations/versions")
    return found
