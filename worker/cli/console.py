"""Output of commands: colours and progress bars on a terminal, plain whole lines elsewhere.

What is printed through `out` and `err` passes `visible` even where a caller forgot.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table

from worker.cli.text import one_line, print_json, visible

_WHOLE: Final = 100_000
"""Columns of a file or a pipe: no line of a command is longer."""


class _SafeConsole(Console):
    """A console that shows each character of a text and sends none of them as a command."""

    @property  # type: ignore[misc] # nobody sets it
    def size(self) -> ConsoleDimensions:
        """Rich's own; a file or a pipe has no width, so nothing is cut or wrapped there."""
        size = super().size
        return size if self.is_terminal else size._replace(width=_WHOLE)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render as usual; only rich's own control codes stay."""
        for segment in super().render(renderable, options):
            safe = segment.text if segment.control else visible(segment.text)
            yield Segment(safe, segment.style, segment.control)


out = _SafeConsole(highlight=False)
err = _SafeConsole(stderr=True, highlight=False)


def print_line(line: str = "") -> None:
    """Print one line with markup; never cut or wrapped, so that scripts can read it."""
    out.print(line, soft_wrap=True)


def escape_for_terminal(text: str) -> str:
    """Escape foreign text for a terminal and for markup; it stays on its line."""
    return escape(one_line(text))


def print_table(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, object]],
    none: str,
    *,
    as_json: bool = False,
) -> None:
    """Print a row for each mapping, of these keys, or `none`; all of their keys as JSON."""
    if as_json:
        print_json(rows)
        return
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


@contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal's stderr, nothing elsewhere; yields a function that advances it."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda steps: bar.advance(task, steps)
