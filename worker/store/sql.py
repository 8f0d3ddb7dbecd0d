"""Postgres as the stores speak it: statements with named values, rows with named columns.

The driver itself, without SQLAlchemy's layers between: they cost more than all of a statement's own
work (docs/decisions/0019). The schema, the migrations and the pool are SQLAlchemy's.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import psycopg

Row: TypeAlias = Any
"""A named tuple; its fields are the columns."""


_NAME = re.compile(r"(?<![:\w]):([a-z_]+)")


class Statement:
    """SQL with `:name` where a value goes. Made once, at import."""

    __slots__ = ("names", "query")

    def __init__(self, text: str) -> None:
        """Turn names into numbers, which is what Postgres takes."""
        numbers: dict[str, int] = {}
        numbered = _NAME.sub(lambda m: f"${numbers.setdefault(m[1], len(numbers) + 1)}", text)
        self.query = numbered.encode()
        self.names = tuple(numbers)


def sql(text: str) -> Statement:
    """Read it like SQLAlchemy's `text`: `sql("SELECT … WHERE id = :id")`."""
    return Statement(text)


class Rows(psycopg.RawCursor[Row]):
    """What a statement gave."""

    def one_or_none(self) -> Row | None:
        """Give the only row; None = there is none."""
        row = self.fetchone()
        if self.rowcount > 1:
            raise LookupError(f"{self.rowcount} rows where one was expected")
        return row

    def one(self) -> Row:
        """Give the only row."""
        row = self.one_or_none()
        if row is None:
            raise LookupError("no row where one was expected")
        return row

    def scalar_one(self) -> Any:  # noqa: ANN401 - a column's value
        """Give the only row's first column."""
        return self.one()[0]

    def scalar_one_or_none(self) -> Any:  # noqa: ANN401
        """Give the only row's first column; None = there is no row."""
        row = self.one_or_none()
        return None if row is None else row[0]


class Connection:
    """One connection out of the pool, as long as a transaction or a statement needs it."""

    __slots__ = ("driver",)

    def __init__(self, driver: psycopg.Connection[Row]) -> None:
        """Take the driver's, which makes `Rows`."""
        self.driver = driver

    def execute(self, statement: Statement, values: Mapping[str, object] | None = None) -> Rows:
        """Send a statement; values that it does not name are left out."""
        given = [(values or {})[name] for name in statement.names]
        rows = self.driver.execute(statement.query, given or None)
        assert isinstance(rows, Rows)  # noqa: S101 - see `Database`
        return rows


def libpq_url(url: str) -> str:
    """Take SQLAlchemy's name of the driver out of an address; libpq knows none."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)
