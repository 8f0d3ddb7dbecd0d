"""Explains the statements of the service, which are captured while they run.

with caught() as statements:
    …                                   the stores execute statements
plan = explain(connection, statements[0])
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from worker.store.sql import Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement with `$1` and so on as placeholders."""

    text: str
    values: tuple[object, ...]
    under: tuple[str, ...] = ()
    """Settings of its transaction, on which the plan may depend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The plan of a statement."""

    statement: str
    nodes: tuple[Mapping[str, Any], ...]
    took_ms: float | None
    """Planning and execution; None = it was not executed."""

    @property
    def indexes(self) -> frozenset[str]:
        """Return the names of the indexes that are read, and of those that detect conflicts."""
        found = {node["Index Name"] for node in self.nodes if "Index Name" in node}
        for node in self.nodes:
            found.update(node.get("Conflict Arbiter Indexes", ()))
        return frozenset(found)

    @property
    def read_whole(self) -> frozenset[str]:
        """Return the names of the tables that are scanned completely."""
        return frozenset(
            node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan"
        )


@contextmanager
def caught() -> Iterator[list[Statement]]:
    """Collect the statements executed in this process, in order."""
    found: list[Statement] = []
    under: list[str] = []

    def execute(rows: Rows, query: Any, params: Any = None, **options: Any) -> Rows:  # noqa: ANN401
        text = query.decode()
        if text in {"BEGIN", "COMMIT"}:
            under.clear()
        elif text.startswith(("SELECT set_config(", "SET ")):
            under.append(text)
        else:
            values = tuple(params or ())
            found.append(Statement(text=text, values=values, under=tuple(under)))
        return psycopg.RawCursor.execute(rows, query, params, **options)

    # All cursors of the pools are of this class.
    Rows.execute = execute  # type: ignore[method-assign]
    try:
        yield found
    finally:
        del Rows.execute


def explain(
    connection: psycopg.Connection[Any], statement: Statement, *, run: bool = False
) -> Plan:
    """Return the plan; `run` also executes the statement and rolls it back."""
    options = "ANALYZE, FORMAT JSON" if run else "FORMAT JSON"
    with connection.transaction(force_rollback=True):
        for setting in statement.under:
            connection.execute(setting.encode())
        query = f"EXPLAIN ({options}) {statement.text}".encode()
        row = psycopg.RawCursor(connection).execute(query, statement.values).fetchone()
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
