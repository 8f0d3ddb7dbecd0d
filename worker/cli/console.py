"""Output of commands: colours and progress bars on a terminal, plain whole lines elsewhere.

People write what these commands print. No text of theirs may steer a terminal, change the order in
which a line is read, or look like a line of ours: `visible` decides that, for all output. What is
printed through `out` and `err` passes it even where a caller forgot.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table

_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 and C1 but tab and newline
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they reorder what follows (bidi)
    "\u2028\u2029"  # they end a line for some programs
    "\ud800-\udfff]"  # half characters, which no output can encode
)
_NEWLINE: Final = "\N{RETURN SYMBOL}"


def visible(text: str) -> str:
    """Replace each character that a terminal would obey instead of showing it."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


class _SafeConsole(Console):
    """A console that shows each character of a text and sends none of them as a command."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render as usual; only rich's own control codes stay."""
        for segment in super().render(renderable, options):
            safe = segment.text if segment.control else visible(segment.text)
            yield Segment(safe, segment.style, segment.control)


out = _SafeConsole(highlight=False)
err = _SafeConsole(stderr=True, highlight=False)

_UNITS: Final = ((172_800, 86_400, "d"), (7_200, 3_600, "h"), (120, 60, "min"))
"""Seconds from which on this unit is used: 90 s is more precise than 2 min."""


def print_line(line: str = "") -> None:
    """Print one line with markup; never cut or wrapped, so that scripts can read it."""
    out.print(line, soft_wrap=True)


def print_json(value: object) -> None:
    """Print one line of JSON."""
    document = visible_json(json.dumps(value, ensure_ascii=False, default=str))
    out.print(document, soft_wrap=True, markup=False, emoji=False)


def visible_json(document: str) -> str:
    """Spell those characters in JSON's own way: the value stays the same."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def warn(line: str) -> None:
    """Print one plain line to stderr."""
    err.print(one_line(line), soft_wrap=True, markup=False)


def one_line(text: str) -> str:
    """Return foreign text as one line without markup, for a terminal."""
    return visible(text).replace("\n", _NEWLINE)


def escape_for_terminal(text: str) -> str:
    """Escape foreign text for a terminal and for markup; it stays on its line."""
    return escape(one_line(text))


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
