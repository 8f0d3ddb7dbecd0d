"""Writes the results as a table, as JSON and as a plot."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Self
from xml.sax.saxutils import escape

from rich import box
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from bench.bars import BARS, BY_KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One row of the table: its rounds, of which the median counts."""

    key: str
    rounds: tuple[float, ...]
    note: str = ""
    """The absolute values behind a ratio."""

    @property
    def value(self) -> float:
        """Return the median."""
        return median(self.rounds)

    @property
    def passed(self) -> bool:
        """Return whether the median meets the bar."""
        return BY_KEY[self.key].is_met(self.value)


@dataclass(kw_only=True)
class Report:
    """All rows of one run."""

    about: dict[str, object]
    measured: dict[str, Measured] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    """Facts without a bar."""
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    """Programs side by side, per message."""
    broken: list[str] = field(default_factory=list)
    """Errors beside the bars; each makes the run fail."""

    def add(self, key: str, rounds: Sequence[float], note: str = "") -> None:
        """Add a row that has a bar."""
        self.measured[key] = Measured(
            key=BY_KEY[key].key, rounds=tuple(round(one, 4) for one in rounds), note=note
        )

    @property
    def failed(self) -> list[str]:
        """Return the keys of bars that are not met."""
        return [row.key for row in self.measured.values() if not row.passed]

    def as_json(self) -> dict[str, object]:
        """Return everything, for a file."""
        rows = [
            {
                "key": row.key,
                "what": BY_KEY[row.key].what,
                "value": row.value,
                "unit": BY_KEY[row.key].unit,
                "bar": str(BY_KEY[row.key]),
                "pass": row.passed,
                "rounds": list(row.rounds),
                "note": row.note,
            }
            for row in self.measured.values()
        ]
        return {
            "about": self.about,
            "bars": rows,
            "columns": self.columns,
            "facts": self.facts,
            "broken": self.broken,
        }

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file of an earlier run, to add to it."""
        held = json.loads(path.read_text())
        report = cls(about=held["about"], facts=held["facts"], columns=held["columns"])
        report.broken = held["broken"]
        for row in held["bars"]:
            report.add(row["key"], row["rounds"], row["note"])
        return report

    def write(self, path: Path) -> Path:
        """Write JSON and plot; return the path of the JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n")
        path.with_suffix(".svg").write_text(plot(self.measured))
        return path

    def show(self, console: Console) -> None:
        """Print the table; rows that were not measured in this run are marked."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for title in ("what", "measured", "bar", ""):
            table.add_column(title, overflow="fold")
        for bar in BARS:
            row = self.measured.get(bar.key)
            if row is None:
                table.add_row(bar.what, "-", str(bar), "not measured")
                continue
            verdict = "[green]pass[/]" if row.passed else "[bold red]FAIL[/]"
            spread = f"{row.value:.2f} {bar.unit} ({min(row.rounds):.2f} to {max(row.rounds):.2f})"
            table.add_row(bar.what, f"{spread}\n[dim]{row.note}[/]", str(bar), verdict)
        console.print(table)
        if self.columns:
            console.print(_side_by_side(self.columns))
        for what in self.broken:
            console.print(f"[bold red]{escape_markup(what)}[/]", soft_wrap=True)
        for name, fact in self.facts.items():
            console.print(f"[dim]{name}: {json.dumps(fact, ensure_ascii=False)}[/]", soft_wrap=True)


def _side_by_side(columns: Mapping[str, Mapping[str, str]]) -> Table:
    names = list(next(iter(columns.values())))
    table = Table("", *names, box=box.SIMPLE_HEAD, pad_edge=False)
    for name, values in columns.items():
        table.add_row(name, *(values[one] for one in names))
    return table


_LINE_PX, _LEFT_PX, _WIDE_PX = 28, 420, 300


def plot(measured: Mapping[str, Measured]) -> str:
    """Draw the median and all rounds of each bar, on a scale on which the bar is 1.

    The SVG is our own: a plotting library would be the largest package of the project.
    """
    rows = [row for row in measured.values() if min(row.rounds) > 0]
    height = _LINE_PX * (len(rows) + 2)
    width = _LEFT_PX + _WIDE_PX + 90
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">',
        "<style>text { font: 12px sans-serif }</style>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT_PX}" y="18">better ←  the bar  → worse</text>',
    ]
    for place, row in enumerate(rows, start=1):
        parts += _line(row, y=_LINE_PX * place + _LINE_PX // 2)
    x = _x(1.0)
    parts.append(f'<path d="M{x} 24V{height - 10}" stroke="black" stroke-dasharray="4 3"/></svg>')
    return "\n".join(parts) + "\n"


def _line(row: Measured, *, y: int) -> list[str]:
    bar = BY_KEY[row.key]
    colour = "#2a7f3f" if row.passed else "#b3261e"

    def x_of(value: float) -> float:
        return _x(value / bar.limit if bar.side == "<=" else bar.limit / value)

    dots = [f'<circle cx="{x_of(one)}" cy="{y}" r="3" fill="{colour}" />' for one in row.rounds]
    x = x_of(row.value)
    return [
        f'<text x="8" y="{y + 4}">{escape(f"{bar.what} ({bar})")[:76]}</text>',
        f'<path d="M{_LEFT_PX} {y}H{x}" stroke="{colour}" stroke-width="6" opacity=".35"/>',
        *dots,
        f'<text x="{_LEFT_PX + _WIDE_PX + 8}" y="{y + 4}">{row.value:.2f}</text>',
    ]


def _x(of_the_bar: float) -> float:
    """Return the position of a value: 0 left, the bar in the middle, twice the bar right."""
    return round(_LEFT_PX + _WIDE_PX * min(of_the_bar, 2.0) / 2, 1)
