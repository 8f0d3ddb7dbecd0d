"""The page of the simulator is correct: switches, faults, endpoints, controls."""

import ast
import dataclasses
import inspect
import json
import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tests.support.databases import ROOT
from worker.sandbox.simulator import FAULTS, Endpoint, Plan, SimulatorConfig
from worker.sandbox.simulator.behaviour import config as config_module
from worker.sandbox.simulator.endpoints.admin import admin_routes
from worker.sandbox.simulator.state.state import State

PAGE = (ROOT / "docs" / "reference" / "simulator.md").read_text()
NOT_A_REQUEST = {Endpoint.UNKNOWN, Endpoint.ANY}


def tables(heading: str) -> list[list[list[str]]]:
    """Return the tables of a section as rows of cells, without their heads."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"(?m)(?:^\|.*\n)+", section)
    return [
        [re.split(r"\s*\|\s*", line.strip("| ")) for line in table.splitlines()[2:]]
        for table in found
    ]


def names_in(table: list[list[str]]) -> list[str]:
    """Return the names in backticks in the first cells."""
    return [name for row in table for name in re.findall(r"`([^`]+)`", row[0])]


def explanations() -> dict[str, str]:
    """Return the docstring of each field of the settings, from their source."""
    tree = ast.parse(inspect.getsource(config_module))
    (body,) = [each.body for each in tree.body if isinstance(each, ast.ClassDef)]
    told: dict[str, str] = {}
    field = ""
    for each in body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            field = each.target.id
            told[field] = ""
        elif isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant):
            told[field] = str(each.value.value)
    return told


def default_of(field: str) -> Any:  # noqa: ANN401 - of any field
    return getattr(SimulatorConfig(), field)


def test_every_switch_is_listed_with_its_default() -> None:
    (rows,) = tables("Switches")
    shown = {names_in([row])[0]: row[1] for row in rows}
    assert list(shown) == [each.name for each in dataclasses.fields(SimulatorConfig)]
    for field, default in shown.items():
        if field != "models":
            given = default_of(field)
            value = list(given) if isinstance(given, tuple) else given
            assert json.loads(default.strip("`")) == value, field
    assert shown["models"] == "five ids"
    assert len(default_of("models")) == 5


def test_every_doubt_is_marked_as_one() -> None:
    (rows,) = tables("Switches")
    marked = {names_in([row])[0] for row in rows if row[2] == "?"}
    doubts = {field for field, text in explanations().items() if text.startswith("UNCERTAIN")}
    assert marked == doubts
    assert all(row[2] in {"", "?"} for row in rows)


def test_every_position_of_a_switch_is_named() -> None:
    (rows,) = tables("Switches")
    hints = get_type_hints(SimulatorConfig)
    for row in rows:
        field, told = names_in([row])[0], " ".join(row[1:])
        if get_origin(hints[field]) is Literal:
            for value in get_args(hints[field]):
                assert f"`{json.dumps(value)}`" in told, (field, value)


def test_every_fault_is_listed_once() -> None:
    faults, _ = tables("Faults")
    assert sorted(names_in(faults)) == sorted(FAULTS)


def test_every_part_of_a_plan_is_listed() -> None:
    _, parts = tables("Faults")
    assert names_in(parts) == [each.name for each in dataclasses.fields(Plan)]
    hints = get_type_hints(Plan)
    told = {name: row[1] for row in parts for name in names_in([row])}
    for part in ("storing", "wire", "posting", "body"):
        assert {each.value for each in hints[part]} <= set(re.findall(r"`(\w+)`", told[part]))


def test_every_endpoint_is_listed() -> None:
    (rows,) = tables("Endpoints")
    assert set(names_in(rows)) == set(Endpoint) - NOT_A_REQUEST


def test_every_control_is_listed() -> None:
    (rows,) = tables("Controls")
    real = {f"{each.method} {each.path}" for each in admin_routes(State(SimulatorConfig(), None))}
    assert set(names_in(rows)) == real
