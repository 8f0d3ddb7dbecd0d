"""`worker stuck`: what waits for longer than it should, a line each with the command that helps."""

from collections import Counter
from dataclasses import asdict

from rich.table import Table

from worker.bootstrap.reports import open_reports
from worker.cli.console import escape_for_terminal, out, print_json, print_line
from worker.cli.errors import CommandError
from worker.cli.settings import agents_of, settings_for
from worker.cli.times import clock, span
from worker.domain.reports.stuck import Stuck, StuckKind, StuckSnapshot, stuck


def run(*, after_s: float, as_json: bool) -> None:
    """Show it. Raises `CommandError` where something is stuck."""
    settings = settings_for("database_url")
    routing, timing = agents_of(settings)
    quiet_s = timing.quiet_s(max(one.call_timeout_s for one in routing.agents.values()))
    with open_reports(settings.database_url) as reports:
        waits = reports.stuck.look(after_s=after_s, quiet_s=quiet_s)
    found = stuck(waits, routing)
    more = _more(waits)
    if as_json:
        print_json({"now": waits.now, "stuck": [asdict(one) for one in found], "more": more})
    elif found:
        out.print(_table(found, waits))
        for kind, count in more.items():
            print_line(f"{kind}: {count} more channel users")
    else:
        print_line(f"nothing has waited for more than {span(after_s)} that should not")
    if found:
        raise CommandError(f"stuck: {len(found) + sum(more.values())}")


def _table(found: tuple[Stuck, ...], waits: StuckSnapshot) -> Table:
    table = Table("since", "for", "user", "message", "why", "try")
    for one in found:
        table.add_row(
            clock(one.since, waits.now),
            span((waits.now - one.since).total_seconds()),
            str(one.user or ""),
            str(one.message or ""),
            escape_for_terminal(one.why),
            one.command,
        )
    return table


def _more(waits: StuckSnapshot) -> dict[StuckKind, int]:
    """Count those that were not read, by kind; people whose lease died are counted as overdue."""
    shown = Counter(_counted_as(one.kind) for one in waits.users)
    all_ = {_counted_as(one.kind): one.all_of_kind for one in waits.users}
    return {kind: all_[kind] - shown[kind] for kind in all_ if all_[kind] > shown[kind]}


def _counted_as(kind: StuckKind) -> StuckKind:
    return StuckKind.OVERDUE if kind is StuckKind.DEAD_LEASE else kind
