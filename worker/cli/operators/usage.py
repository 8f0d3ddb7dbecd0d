"""`worker usage`: calls, turns and tokens."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Final, cast

from rich.table import Table

from worker.bootstrap.reports import open_reports
from worker.cli.console import out, print_json
from worker.cli.errors import MISUSED, CommandError
from worker.cli.settings import routing_of, settings_for
from worker.domain.routing import Routing
from worker.store.reports.usage import BudgetUse, Dimension, UsageRow

DAYS: Final = 30
_SUMS: Final = ("turns", "calls", "uncounted_calls", "input_tokens", "output_tokens")


def run(by: Sequence[str], *, since: date | None, until: date | None, as_json: bool) -> None:
    """Print the sums, a line for each group, and the use of today's budgets.

    None = up to today, and 30 days back.
    """
    by = list(dict.fromkeys(by))
    settings = settings_for("database_url")
    with open_reports(settings.database_url) as reports:
        store = reports.usage
        until = until or max(since or date.min, store.today())
        since = since or until - timedelta(days=DAYS - 1)
        if since > until:
            raise CommandError("--since is later than --until", exit_code=MISUSED)
        asked: list[Dimension] = []
        for one in by:
            columns = ("agent", "version") if one == "model" else (one,)
            asked += [cast("Dimension", each) for each in columns if each not in asked]
        rows = store.total(asked, since=since, until=until)
        used = store.budgets()
    routing = routing_of(settings)
    groups = _folded(by, asked, rows, routing)
    budgets = list(_budgets(routing, used))
    if as_json:
        print_json({"since": since, "until": until, "groups": groups, "budgets": budgets})
        return
    table = Table(*by, title=f"{since} to {until}, UTC")
    for name in _SUMS:
        table.add_column(name.replace("_", " "), justify="right")
    for group in groups:
        table.add_row(*(str(group[name]) for name in (*by, *_SUMS)))
    out.print(table if groups else f"no calls from {since} to {until}")
    for each in budgets:
        said = "agent {agent} has used {used} of {limit} {of} today, UTC"
        out.print(said.format_map(each))


def _budgets(routing: Routing, used: Mapping[str, BudgetUse]) -> Iterator[dict[str, object]]:
    """Yield the use of each budget that all users of an agent share."""
    for name, agent in routing.agents.items():
        use, budget = used.get(name, BudgetUse()), agent.budget
        if budget is None:
            continue
        for of, limit in (("messages", budget.messages), ("tokens", budget.tokens)):
            if limit is not None:
                yield {"agent": name, "of": of, "limit": limit, "used": getattr(use, of)}


def _folded(
    by: Sequence[str],
    asked: Sequence[Dimension],
    rows: Iterable[UsageRow],
    routing: Routing,
) -> list[dict[str, object]]:
    """Add up groups that differ only by columns that are not shown."""
    folded: dict[tuple[str, ...], dict[str, int]] = {}
    for row in rows:
        values = dict(zip(asked, row.group, strict=True))
        names = tuple(
            _model(values["agent"], values["version"], routing)
            if one == "model"
            else values[cast("Dimension", one)]
            for one in by
        )
        sums = folded.setdefault(names, dict.fromkeys(_SUMS, 0))
        for name in _SUMS:
            sums[name] += getattr(row, name)
    return [{**dict(zip(by, names, strict=True)), **sums} for names, sums in sorted(folded.items())]


def _model(agent: str, version: str, routing: Routing) -> str:
    """Return the model of a version of an agent; only the present version is known."""
    current = routing.agents.get(agent)
    if current is not None and current.version == version:
        return current.model
    return f"unknown ({agent}, version {version})"
