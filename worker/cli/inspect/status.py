"""`worker status`: whether everything is up, and counts. Never a text, an address or a key."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from rich.console import Group
from rich.live import Live
from rich.table import Table

from worker.cli.console import out
from worker.cli.revision import wrong_with
from worker.cli.text import print_json
from worker.config.settings import Settings
from worker.domain.errors import BrokerAwayError, WorkerError
from worker.domain.reports.misplaced import misplaced_line
from worker.domain.reports.times import span
from worker.queue.broker import QUEUES, broker_name
from worker.queue.misplaced import misplaced_entries
from worker.queue.waiting import waiting_entries
from worker.store.reports.status import Ages, Overview, StatusStore
from worker.store.revisions import revisions

_WATCH_EVERY_S: Final = 2.0


@dataclass(slots=True, kw_only=True)
class Status:
    """State of the installation. `healthy` = everything that is needed is up."""

    healthy: bool = False
    problems: list[str] = field(default_factory=list)
    """A line for each thing that is down."""
    revision: str | None = None
    """The database's migration; None = never migrated, or Postgres is away."""
    head: str | None
    """The newest migration; None = this installation has no migrations folder."""
    queues: Mapping[str, int] | None = None
    """Name -> entries that wait, and under `unacked` what a worker has; None = no broker."""
    misplaced: Mapping[str, int] = field(default_factory=dict)
    """Messages on queues that no worker takes."""
    overview: Overview | None = None
    ages: Ages | None = None


def look(store: StatusStore, settings: Settings) -> Status:
    """Ask Postgres and the broker; if one does not answer, that is a problem, no exception."""
    # Installed as a package, without the migrations, there is nothing to compare with.
    status = Status(head=next(reversed(revisions()), None))
    try:
        _ask_postgres(store, status)
    except WorkerError as error:
        status.problems.append(str(error))
    try:
        status.queues = waiting_entries(settings.broker_url, QUEUES)
        status.misplaced = misplaced_entries(settings.broker_url)
    except BrokerAwayError as error:
        status.problems.append(f"{broker_name(settings.broker_url)}: {error}")
    status.problems += [misplaced_line(*one) for one in status.misplaced.items()]
    status.healthy = not status.problems
    return status


def _ask_postgres(store: StatusStore, status: Status) -> None:
    status.revision = at = store.revision()
    if at is None:
        status.problems.append("the database was never migrated: worker migrate")
        return
    overview = store.overview()
    status.ages = ages = store.ages(overview.workers)
    status.overview = overview
    if status.head is not None and (wrong := wrong_with(at)):
        status.problems.append(wrong)
    if not overview.workers:
        status.problems.append("no worker is alive")
    if ages.stalled_workers:
        status.problems.append(f"{ages.stalled_workers} worker(s) take nothing while entries wait")


def show(status: Status, *, as_json: bool) -> None:
    """Print it once."""
    if as_json:
        print_json(asdict(status))
    else:
        out.print(_screen(status))


def keep_showing(store: StatusStore, settings: Settings, *, as_json: bool) -> None:
    """Look again and again until Ctrl-C; on a terminal, always in the same place."""
    if as_json or not out.is_terminal:
        while True:
            show(look(store, settings), as_json=as_json)
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
    if seen.conflicts:
        table.add_row("id used twice", str(seen.conflicts), "with another body: worker why MESSAGE")
    table.add_row("oldest unanswered", "", _age(seen.oldest_unanswered_s))
    table.add_row("open turns", str(seen.open_turns), f"{seen.calls_in_flight} calls in flight")
    gates = ", ".join(
        f"{one.name} until {one.closed_until:%Y-%m-%d %H:%M:%SZ} ({one.reason})"
        for one in seen.closed_gates
    )
    table.add_row("gates closed", str(len(seen.closed_gates)), gates)
    if seen.paused:
        table.add_row("paused users", str(sum(seen.paused.values())), _counts(seen.paused))
    letters = _counts(seen.dead_letters)
    table.add_row("dead letters", str(sum(seen.dead_letters.values())), letters)
    table.add_row("deliveries", str(sum(seen.deliveries.values())), _counts(seen.deliveries))
    if seen.drafts and seen.oldest_draft_s is not None:
        oldest = f"{_counts(seen.drafts)}; the oldest {span(seen.oldest_draft_s)}"
        table.add_row("drafts", str(sum(seen.drafts.values())), oldest)
    table.add_row("opted out", str(sum(seen.opted_out.values())), _counts(seen.opted_out))


def _age(seconds: float | None) -> str:
    return "nothing waits" if seconds is None else span(seconds)


def _up(*, is_up: bool) -> str:
    return "[green]up[/]" if is_up else "[red]down[/]"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
