"""Whether the rows of the tables belong together, for an installation that was restored."""

from typing import Final

from worker.bootstrap.reports import open_database
from worker.cli.doctor.examine import Setup
from worker.domain.reports.finding import Finding, fault, ok
from worker.store.reports.orphans import count_orphans

AUDIT_S: Final = 3600.0


def parents(setup: Setup) -> Finding:
    """Check that what rows refer to is there."""
    with (
        open_database(setup.settings.database_url, name="worker-doctor") as database,
        database.transaction() as connection,
    ):
        orphans = count_orphans(connection)
    if orphans:
        found = ", ".join(f"{name} ({count})" for name, count in orphans.items())
        return fault(
            f"what they refer to is gone: {found}",
            "restore all tables from one backup, or the rows that somebody deleted",
        )
    return ok("what they refer to is there")
