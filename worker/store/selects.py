"""Reads values through `select` over the mapped classes; the driver runs it, as all statements.

For the wings that people read, not messages (docs/decisions/0031): a value's fields name the
columns, so that no statement and no mapper lists them once more.
"""

from dataclasses import fields
from typing import Any, Final

from sqlalchemy import Select, SQLColumnExpression, select
from sqlalchemy.dialects.postgresql.psycopg import dialect
from sqlalchemy.orm import DeclarativeBase

from worker.store.database import Store
from worker.store.rows import Value, value_of
from worker.store.sql import Connection

# psycopg's RawCursor, which the pool's connections have, takes `$1` and a list.
_DIALECT: Final = dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


def select_as(
    value: type[object], *tables: type[DeclarativeBase], **named: SQLColumnExpression[Any]
) -> Select[Any]:
    """Select a column for each field of a value class, of the first table that has it.

    `named` are fields whose column has another name or is computed. A field that is in neither is
    left out: `fetch` gets it in `more`, or it has a default.
    """
    columns: list[SQLColumnExpression[Any]] = [one.label(name) for name, one in named.items()]
    for field in fields(value):  # type: ignore[arg-type] # a dataclass
        owner = next((one for one in tables if hasattr(one, field.name)), None)
        if field.name not in named and owner is not None:
            columns.append(getattr(owner, field.name).label(field.name))
    return select(*columns)


def fetch(
    connection: Connection, value: type[Value], asked: Select[Any], **more: object
) -> tuple[Value, ...]:
    """Execute a `select` and build a value from each row; its values are bound, never quoted."""
    # `render_postcompile`: each element of an `IN` becomes a parameter of its own.
    compiled = asked.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    values = [compiled.params[name] for name in compiled.positiontup or ()]
    rows = connection.driver.execute(compiled.string.encode(), values or None)
    return tuple(value_of(value, row, **more) for row in rows)


class Reader(Store):
    """Root of the stores that read values, each with one statement."""

    def _fetch(self, value: type[Value], asked: Select[Any]) -> tuple[Value, ...]:
        with self._database.statement() as connection:
            return fetch(connection, value, asked)
