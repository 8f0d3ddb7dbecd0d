"""`worker retention`: runs now the pass that workers run each hour."""

from collections import Counter

from worker.bootstrap.status import open_database
from worker.cli.console import print_json, print_line, progress_bar
from worker.cli.errors import MISUSED, CommandError
from worker.cli.settings import settings_for
from worker.handlers.privacy.retention import ApplyRetention
from worker.store.privacy.retention import RetentionStore


def run(*, dry_run: bool, as_json: bool) -> None:
    """Remove texts older than RETENTION_DAYS; `dry_run`: only count them."""
    settings = settings_for("database_url")
    if settings.retention_days is None:
        raise CommandError(
            "RETENTION_DAYS is not set: everything is kept for ever", exit_code=MISUSED
        )
    with open_database(settings.database_url) as database:
        store = RetentionStore(database, keep_days=settings.retention_days)
        apply = ApplyRetention(store=store)
        counts = sum(map(Counter, apply(dry_run=True)), Counter[str]())
        if not dry_run:
            counts = _removed(apply, total=counts.total())
    verb = "would_be_removed" if dry_run else "removed"
    if as_json:
        print_json({"older_than_days": settings.retention_days, verb: counts})
        return
    listed = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in counts.items())
    said = "would be removed" if dry_run else "removed"
    print_line(f"older than {settings.retention_days} days, {said}: {listed or 'nothing'}")


def _removed(apply: ApplyRetention, *, total: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    with progress_bar("retention", total) as advance:
        for batch in apply():
            counts.update(batch)
            advance(sum(batch.values()))
    return counts
