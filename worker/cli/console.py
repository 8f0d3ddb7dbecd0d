"""Output of commands: colours and progress bars on a terminal, plain whole lines elsewhere."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""C0 and C1 but tab and newline: a reply must not steer somebody's terminal."""

_UNITS: Final = ((172_800, 86_400, "d"), (7_200, 3_600, "h"), (120, 60, "min"))
"""Seconds from which on this unit is used: 90 s is more precise than 2 min."""


def print_line(line: str = "") -> None:
    """Print one line with markup; never cut or wrapped, so that scripts can read it."""
    out.print(line, soft_wrap=True)


def print_json(value: object) -> None:
    """Print one line of JSON."""
    out.print(
        json.dumps(value, ensure_ascii=False, default=str),
        soft_wrap=True,
        markup=False,
        emoji=False,
    )


def warn(line: str) -> None:
    """Print one plain line to stderr."""
    err.print(line, soft_wrap=True, markup=False)


def escape_for_terminal(text: str) -> str:
    """Escape foreign text for a terminal and for markup."""
    return escape(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))


def print_table(columns: Sequence[str], rows: Sequence[Mapping[str, object]], none: str) -> None:
    """Print a row for each mapping, of these keys; `none` is printed if there are no rows."""
    table = Table(*(name.removesuffix("_at").replace("_", " ") for name in columns))
    for row in rows:
        table.add_row(*(cell(row[name]) for name in columns))
    out.print(table if rows else none)


def cell(value: object) -> str:
    """Return a value of any kind as safe text for a person."""
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value))
    text = f"{value:%Y-%m-%d %H:%M:%SZ}" if isinstance(value, datetime) else str(value)
    return "" if value is None else escape_for_terminal(text)


def counts_as_text(counts: Mapping[str, int]) -> str:
    """List counts of tables or of other things by name."""
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal's stderr, nothing elsewhere; yields a function that advances it."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda steps: bar.advance(task, steps)


def span(seconds: float) -> str:
    """Format a length of time: `2.5 s`, `90 s`, `3 min`."""
    seconds = abs(seconds)
    for least, size, unit in _UNITS:
        if seconds >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"  # noqa: PLR2004 - two digits


def moment(at: datetime, now: datetime) -> str:
    """Format a time and its distance: `12:00:03Z, in 2.0 s`; with the date if it is another day."""
    distance = (at - now).total_seconds()
    phrase = f"in {span(distance)}" if distance > 0 else f"{span(distance)} ago"
    return f"{clock(at, now)}, {phrase}"


def clock(at: datetime, now: datetime) -> str:
    """Format a time alone; with the date if it is another day."""
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    form = "%H:%M:%SZ" if at.date() == now.date() else "%Y-%m-%d %H:%M:%SZ"
    return at.strftime(form)
