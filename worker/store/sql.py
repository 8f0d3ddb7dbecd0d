"""Statements with named values, rows with named columns, over the driver itself.

SQLAlchemy's layers would cost more than all of a statement's own work (docs/decisions/0019). The
schema and the migrations are SQLAlchemy's.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import psycopg

Row: TypeAlias = Any
"""A named tuple; its fields are the columns."""

_NAME = re.compile(r"(?<![:\w]):([a-z_]+)")


class Statement(NamedTuple):
    """SQL as Postgres takes it, with numbers for the values, and their names in that order."""

    query: bytes
    names: tuple[str, ...]


def sql(text: str) -> Statement:
    """Parse SQL with `:name` for a value, once, at import: `sql("SELECT … WHERE id = :id")`."""
    numbers: dict[str, int] = {}
    numbered = _NAME.sub(lambda m: f"${numbers.setdefault(m[1], len(numbers) + 1)}", text)
    return Statement(numbered.encode(), tuple(numbers))


class Rows(psycopg.RawCursor[Row]):
    """The rows of a statement."""

    def one_or_none(self) -> Row | None:
        """Return the only row; None = there is none."""
        row = self.fetchone()
        if self.rowcount > 1:
            raise LookupError(f"{self.rowcount} rows where one was expected")
        return row

    def one(self) -> Row:
        """Return the only row."""
        row = self.one_or_none()
        if row is None:
            raise LookupError("no row where one was expected")
        return row

    def scalar_one(self) -> Any:  # noqa: ANN401 - a column's value
        """Return the first column of the only row."""
        return self.one()[0]

    def scalar_one_or_none(self) -> Any:  # noqa: ANN401
        """Return the first column of the only row; None = there is no row."""
        row = self.one_or_none()
        return None if row is None else row[0]


class Connection:
    """A connection from the pool, for one transaction or statement."""

    __slots__ = ("driver",)

    def __init__(self, driver: psycopg.Connection[Row]) -> None:
        """Wrap a connection of the driver, which returns `Rows`."""
        self.driver = driver

    def execute(self, statement: Statement, values: Mapping[str, object] | None = None) -> Rows:
        """Execute a statement; values that it does not name are left out."""
        given = [(values or {})[name] for name in statement.names]
        rows = self.driver.execute(statement.query, given or None)
        assert isinstance(rows, Rows)  # noqa: S101 - see `Database`
        return rows
