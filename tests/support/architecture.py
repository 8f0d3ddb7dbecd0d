"""Generates the picture of floors and wings in docs/explanation/architecture.md.

python -m tests.support.architecture     write it anew
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "architecture.md"
GENERATED = re.compile(r"(?s)(<!-- Generated .*? -->\n).*?(<!-- end -->)")
FLOORS_CONTRACT = "A module imports only from floors below its own"
BESIDE = ("client", "testing", "sandbox")
"""Packages that the service does not import: another program, or tests, use them."""


def floors() -> list[list[str]]:
    """Return the packages of each floor of the contract, from the lowest to the highest."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [
        each["layers"] for each in contracts["contracts"] if each["name"] == FLOORS_CONTRACT
    ]
    named = [[name.strip() for name in layer.split("|")] for layer in reversed(layers)]
    return [[name for name in floor if name not in ("__main__", *BESIDE)] for floor in named]


def packages_in(folder: Path) -> list[str]:
    """Return the names of the packages that a folder holds."""
    return sorted(each.parent.name for each in folder.glob("*/__init__.py"))


def node(name: str) -> str:
    """Return one box: the package with its sub-packages, or the module."""
    folder = ROOT / "worker" / name
    if not folder.is_dir():
        return f'{name}["<b>{name}.py</b>"]'
    inside = packages_in(folder)
    rows = [" · ".join(inside[at : at + 4]) for at in range(0, len(inside), 4)]
    return f'{name}["<b>{name}</b>{"".join("<br/>" + row for row in rows)}"]'


def picture() -> str:
    """Return the Mermaid diagram: one row of boxes a floor, from the highest to the lowest."""
    lines = ["```mermaid", "flowchart TB"]
    numbered = [(number, floor) for number, floor in enumerate(floors(), start=1) if floor]
    for number, floor in reversed(numbered):
        lines.append(f'  subgraph floor{number}["floor {number}"]')
        lines.append("    direction LR")
        lines.extend(f"    {node(name)}" for name in floor)
        lines.append("  end")
    lines.append('  subgraph beside["beside the service"]')
    lines.append("    direction LR")
    lines.extend(f"    {node(name)}" for name in BESIDE)
    lines.append("  end")
    above = [number for number, _ in reversed(numbered)]
    lines.append("  " + " --> ".join(f"floor{number}" for number in above))
    lines.append("```")
    return "\n".join(lines) + "\n"


def updated(page: str) -> str:
    """Return the page with the picture of today's folders and contracts in place of its own."""
    return GENERATED.sub(lambda found: f"{found[1]}{picture()}{found[2]}", page)


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
