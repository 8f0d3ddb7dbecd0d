"""`worker status`: whether everything is up, and counts. Never a text, an address or a key."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from rich.console import Group
from rich.live import Live
from rich.table import Table

from worker.bootstrap.status import open_counts
from worker.cli import migrations
from worker.cli.console import out, print_json
from worker.cli.errors import CommandError
from worker.cli.settings import settings_for
from worker.cli.times import span
from worker.config.settings import Settings
from worker.domain.errors import WorkerError
from worker.queue.broker import ERRORS, QUEUES, broker_name, waiting_entries
from worker.store.reports.status import Ages, Overview, StatusStore

_WATCH_EVERY_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """State of the installation. `healthy` = everything that is needed is up."""

    healthy: bool
    problems: tuple[str, ...]
    """A line for each thing that is down."""
    revision: str | None
    """The database's migration; None = never migrated, or Postgres is away."""
    head: str | None
    """The newest migration; None = this installation has no migrations folder."""
    queues: Mapping[str, int] | None
    """Name -> entries that wait, and under `unacked` what a worker has; None = no broker."""
    overview: Overview | None = field(default=None)
    ages: Ages | None = None


def run(*, as_json: bool, watch: bool) -> None:
    """Show it, once or until Ctrl-C. Raises `CommandError` where something is down."""
    settings = settings_for("database_url", "broker_url")
    with open_counts(settings.database_url) as counts:
        status = look(counts.status, settings)
        if watch:
            _watch(counts.status, settings, as_json=as_json)
        elif as_json:
            print_json(asdict(status))
        else:
            out.print(_screen(status))
    if not status.healthy:
        raise CommandError("; ".join(status.problems))


def look(store: StatusStore, settings: Settings) -> Status:
    """Ask Postgres and the broker; if one does not answer, that is a problem, no exception."""
    problems: list[str] = []
    revision, overview, ages = _from_postgres(store, problems)
    head = _head()
    if overview is not None and head is not None and revision != head:
        problems.append(f"migrations are missing (at {revision}, wanted {head}): worker migrate")
    if overview is not None and not overview.workers:
        problems.append("no worker is alive")
    if ages is not None and ages.stalled_workers:
        problems.append(f"{ages.stalled_workers} worker(s) take nothing while entries wait")
    queues = _from_broker(settings.broker_url, problems)
    return Status(
        healthy=not problems,
        problems=tuple(problems),
        revision=revision,
        head=head,
        queues=queues,
        overview=overview,
        ages=ages,
    )


def _from_postgres(
    store: StatusStore, problems: list[str]
) -> tuple[str | None, Overview | None, Ages | None]:
    revision = None
    try:
        revision = store.revision()
        if revision is None:
            problems.append("the database was never migrated: worker migrate")
            return None, None, None
        overview = store.overview()
        return revision, overview, store.ages(overview.workers)
    except WorkerError as error:
        problems.append(str(error))
        return revision, None, None


def _from_broker(broker_url: str, problems: list[str]) -> Mapping[str, int] | None:
    try:
        return waiting_entries(broker_url, QUEUES)
    except ERRORS as error:
        problems.append(f"{broker_name(broker_url)}: {type(error).__name__}")
        return None


def _head() -> str | None:
    try:
        return migrations.head_revision()
    except CommandError:
        # Installed as a package, without the migrations: then there is nothing to compare with.
        return None


def _watch(store: StatusStore, settings: Settings, *, as_json: bool) -> None:
    if as_json or not out.is_terminal:
        while True:
            status = look(store, settings)
            if as_json:
                print_json(asdict(status))
            else:
                out.print(_screen(status))
            time.sleep(_WATCH_EVERY_S)
    with Live(_screen(look(store, settings)), console=out, auto_refresh=False, screen=True) as live:
        while True:
            live.update(_screen(look(store, settings)), refresh=True)
            time.sleep(_WATCH_EVERY_S)


def _screen(status: Status) -> Group:
    table = Table.grid(padding=(0, 2))
    at = status.revision or "-"
    newest = " (newest)" if status.head == status.revision else f" (newest: {status.head or '?'})"
    table.add_row("Postgres", _up(is_up=status.revision is not None), f"migration {at}{newest}")
    table.add_row("broker", _up(is_up=status.queues is not None), _counts(status.queues or {}))
    if status.overview is not None:
        _add_overview(table, status.overview)
    if status.ages is not None:
        ages = status.ages
        table.add_row("oldest undelivered", "", _age(ages.oldest_undelivered_s))
        table.add_row("inbox", str(ages.inbox), _age(ages.oldest_inbox_s))
    problems = "\n".join(f"[red]{problem}[/]" for problem in status.problems)
    return Group(table, problems or "[green]healthy[/]")


def _add_overview(table: Table, seen: Overview) -> None:
    workers = ", ".join(f"{one.host}/{one.pid} up {one.up_s:.0f} s" for one in seen.workers)
    table.add_row("workers", str(len(seen.workers)), workers)
    table.add_row("messages", str(sum(seen.messages.values())), _counts(seen.messages))
    table.add_row("oldest unanswered", "", _age(seen.oldest_unanswered_s))
    table.add_row("open turns", str(seen.open_turns), f"{seen.calls_in_flight} calls in flight")
    gates = ", ".join(
        f"{one.name} until {one.closed_until:%Y-%m-%d %H:%M:%SZ} ({one.reason})"
        for one in seen.closed_gates
    )
    table.add_row("gates closed", str(len(seen.closed_gates)), gates)
    letters = _counts(seen.dead_letters)
    table.add_row("dead letters", str(sum(seen.dead_letters.values())), letters)
    table.add_row("deliveries", str(sum(seen.deliveries.values())), _counts(seen.deliveries))


def _age(seconds: float | None) -> str:
    return "nothing waits" if seconds is None else span(seconds)


def _up(*, is_up: bool) -> str:
    return "[green]up[/]" if is_up else "[red]down[/]"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
