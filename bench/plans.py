"""How Postgres carries out the statements of the service: caught where they run, then explained.

with caught() as statements:
    …                                   whatever runs through SQLAlchemy in this process
plan = explain(connection, statements[0])
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, event


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement with its values."""

    text: str
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What Postgres does for it."""

    statement: str
    nodes: tuple[Mapping[str, Any], ...]
    took_ms: float | None
    """Planning and execution; None = it was not executed."""

    @property
    def indexes(self) -> frozenset[str]:
        """Names of the indexes that are read, and of those that settle conflicts."""
        found = {node["Index Name"] for node in self.nodes if "Index Name" in node}
        for node in self.nodes:
            found.update(node.get("Conflict Arbiter Indexes", ()))
        return frozenset(found)

    @property
    def read_whole(self) -> frozenset[str]:
        """Names of the tables that are read from beginning to end."""
        return frozenset(
            node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan"
        )


@contextmanager
def caught() -> Iterator[list[Statement]]:
    """Collect what is executed in this process, in order."""
    found: list[Statement] = []

    def keep(
        _connection: Connection,
        _cursor: object,
        statement: str,
        parameters: Mapping[str, object],
        _context: object,
        executemany: bool,  # noqa: FBT001 - SQLAlchemy's signature
    ) -> None:
        if not executemany:
            found.append(Statement(text=statement, values=dict(parameters or {})))

    event.listen(Engine, "before_cursor_execute", keep)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", keep)


def explain(
    connection: psycopg.Connection[Any], statement: Statement, *, run: bool = False
) -> Plan:
    """Ask for the plan; `run` executes the statement too, and takes it back."""
    options = "ANALYZE, FORMAT JSON" if run else "FORMAT JSON"
    with connection.transaction(force_rollback=True):
        query = f"EXPLAIN ({options}) {statement.text}".encode()
        row = connection.execute(query, statement.values).fetchone()
    found = row[0][0] if row else {}
    times = [found[name] for name in ("Planning Time", "Execution Time") if name in found]
    return Plan(
        statement=statement.text,
        nodes=tuple(_nodes(found["Plan"])),
        took_ms=sum(times) if times else None,
    )


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
