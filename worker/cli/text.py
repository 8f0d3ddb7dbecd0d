"""Plain output: lines, JSON, times. Without rich, for commands that run every few seconds.

People write what these commands print. No text of theirs may steer a terminal, change the order in
which a line is read, or look like a line of ours: `visible` decides that, for all output.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import typer

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


def print_json(value: object) -> None:
    """Print one line of JSON; each time is RFC 3339, in UTC."""
    typer.echo(visible_json(json.dumps(value, ensure_ascii=False, default=_in_json)))


def _in_json(value: object) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


def visible_json(document: str) -> str:
    """Spell those characters in JSON's own way: the value stays the same."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def print_text(line: str) -> None:
    """Print one line as it is, without markup."""
    typer.echo(one_line(line))


def warn(line: str) -> None:
    """Print one plain line to stderr."""
    typer.echo(one_line(line), err=True)


def one_line(text: str) -> str:
    """Return foreign text as one line without markup, for a terminal."""
    return visible(text).replace("\n", _NEWLINE)


def counts_as_text(counts: Mapping[str, int]) -> str:
    """List counts of tables or of other things by name."""
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
