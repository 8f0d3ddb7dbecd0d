# ruff: noqa: PLC0415 - heavy imports wait until the command runs, so that --help is quick
"""`worker usage`: calls, turns and tokens."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer
from rich.table import Table

from worker.cli.console import cell, out
from worker.cli.errors import MisuseError
from worker.cli.options import Json
from worker.cli.text import print_json

if TYPE_CHECKING:
    from worker.domain.routing import Routing
    from worker.store.reports.usage import BudgetUse, Dimension, UsageRow

DAYS: Final = 30
_SUMS: Final = ("turns", "calls", "uncounted_calls", "input_tokens", "output_tokens")
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DATE")]


class By(StrEnum):
    """The subjects by which usage is summed."""

    AGENT = "agent"
    CHANNEL = "channel"
    DAY = "day"
    MODEL = "model"


def usage(
    *,
    by: Annotated[
        list[By] | None, typer.Option("--by", help="Sum by this; may be repeated.")
    ] = None,
    since: Day = None,
    until: Day = None,
    as_json: Json = False,
) -> None:
    """Show calls, turns and tokens, by agent, channel and day of the last 30 days. Days are UTC."""
    from worker.bootstrap.reports import reading
    from worker.config.agents_file import load_agents
    from worker.store.reports.usage import UsageStore

    names = list(dict.fromkeys(one.value for one in by or (By.AGENT, By.CHANNEL, By.DAY)))
    with reading("database_url") as (settings, database):
        store = UsageStore(database)
        last = until.date() if until else max(since.date() if since else date.min, store.today())
        first = since.date() if since else last - timedelta(days=DAYS - 1)
        if first > last:
            raise MisuseError("--since is later than --until")
        asked: list[Dimension] = []
        for one in names:
            columns = ("agent", "version") if one == "model" else (one,)
            asked += [cast("Dimension", each) for each in columns if each not in asked]
        rows = store.total(asked, since=first, until=last)
        used = store.budgets()
    routing = load_agents(settings.agents_file)[0]
    groups = _folded(names, asked, rows, routing)
    budgets = list(_budgets(routing, used))
    if as_json:
        print_json({"since": first, "until": last, "groups": groups, "budgets": budgets})
        return
    out.print(_table(names, groups, f"{first} to {last}"))
    for each in budgets:
        said = "agent {agent} has used {used} of {limit} {of} today, UTC"
        out.print(said.format_map(each))


def _table(names: Sequence[str], groups: Sequence[Mapping[str, object]], days: str) -> Table | str:
    table = Table(*names, title=f"{days}, UTC")
    for name in _SUMS:
        table.add_column(name.replace("_", " "), justify="right")
    for group in groups:
        table.add_row(*(cell(group[name]) for name in (*names, *_SUMS)))
    return table if groups else f"no calls from {days}"


def _budgets(routing: "Routing", used: "Mapping[str, BudgetUse]") -> Iterator[dict[str, object]]:
    """Yield the use of each budget that all users of an agent share."""
    for name, agent in routing.agents.items():
        for of in ("messages", "tokens"):
            limit = getattr(agent.budget, of, None)
            if limit is not None:
                use = getattr(used.get(name), of, 0)
                yield {"agent": name, "of": of, "limit": limit, "used": use}


def _folded(
    by: Sequence[str],
    asked: "Sequence[Dimension]",
    rows: "Iterable[UsageRow]",
    routing: "Routing",
) -> list[dict[str, object]]:
    """Add up groups that differ only by columns that are not shown."""
    folded: dict[tuple[str, ...], dict[str, int]] = {}
    for row in rows:
        values: dict[str, str] = dict(zip(asked, row.group, strict=True))
        if "version" in values:
            values["model"] = _model(values["agent"], values["version"], routing)
        sums = folded.setdefault(tuple(values[one] for one in by), dict.fromkeys(_SUMS, 0))
        for name in _SUMS:
            sums[name] += getattr(row, name)
    return [{**dict(zip(by, names, strict=True)), **sums} for names, sums in sorted(folded.items())]


def _model(agent: str, version: str, routing: "Routing") -> str:
    """Return the model of a version of an agent; only the present version is known."""
    current = routing.agents.get(agent)
    if current is not None and current.version == version:
        return current.model
    return f"unknown ({agent}, version {version})"
