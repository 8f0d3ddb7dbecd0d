"""Draws the floors and wings of worker/ from the import contracts and the folders.

python -m tests.support.architecture     write the picture again
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "explanation" / "images" / "architecture.svg"
FLOORS_CONTRACT = "A module imports only from floors below its own"
BESIDE = ("testing", "sandbox")
"""Packages that the service does not import: another program, or tests, use them."""
WIDTH, LEFT, GAP, WING_WIDTH, WING_HEIGHT, HEAD = 960, 90, 10, 88, 20, 26
"""Sizes in pixels; `LEFT` is the column of the floors' names."""


def floors() -> list[list[str]]:
    """Return the packages of each floor of the contract, from the lowest to the highest."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [
        each["layers"] for each in contracts["contracts"] if each["name"] == FLOORS_CONTRACT
    ]
    named = [[name.strip() for name in re.split("[|:]", layer)] for layer in reversed(layers)]
    return [[name for name in floor if name not in ("__main__", *BESIDE)] for floor in named]


@dataclass(frozen=True, slots=True)
class Box:
    """A package with its wings, or a module."""

    name: str
    wings: tuple[str, ...]

    @property
    def columns(self) -> int:
        """Wings side by side."""
        return 2 if len(self.wings) > 3 else 1

    @property
    def width(self) -> int:
        """Pixels."""
        return self.columns * WING_WIDTH + 12

    @property
    def height(self) -> int:
        """Pixels."""
        return HEAD + -(-len(self.wings) // self.columns) * WING_HEIGHT + 6

    def draw(self, x: int, y: int, height: int) -> Iterator[str]:
        """Yield the SVG elements of the box."""
        yield (
            f'<rect x="{x}" y="{y}" width="{self.width}" height="{height}" rx="4" '
            'fill="#fff" stroke="#567"/>'
        )
        yield f'<text x="{x + 8}" y="{y + 18}" font-weight="bold">{self.name}</text>'
        for at, wing in enumerate(self.wings):
            row, column = divmod(at, self.columns)
            left = x + 8 + column * WING_WIDTH
            yield f'<text x="{left}" y="{y + HEAD + 14 + row * WING_HEIGHT}">{wing}</text>'


def box_of(name: str) -> Box:
    """Return the box of a package or a module of worker/."""
    folder = ROOT / "worker" / name
    if not folder.is_dir():
        return Box(f"{name}.py", ())
    return Box(name, tuple(sorted(each.parent.name for each in folder.glob("*/__init__.py"))))


def picture() -> str:
    """Return the picture as SVG: a row for each floor, the highest first."""
    numbered = [(f"floor {number}", floor) for number, floor in enumerate(floors(), start=1)]
    parts: list[str] = []
    y = GAP
    for label, names in [*reversed(numbered), ("beside", list(BESIDE))]:
        if not names:
            continue
        boxes = [box_of(name) for name in names]
        height = max(box.height for box in boxes)
        parts.append(
            f'<rect x="{GAP}" y="{y}" width="{WIDTH - 2 * GAP}" height="{height + 2 * GAP}" '
            f'rx="6" fill="{"#f3f3f3" if label == "beside" else "#e6eef5"}"/>'
        )
        parts.append(f'<text x="{2 * GAP}" y="{y + GAP + 18}">{label}</text>')
        x = LEFT
        for box in boxes:
            parts.extend(box.draw(x, y + GAP, height))
            x += box.width + GAP
        y += height + 3 * GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" '
        'font-family="sans-serif" font-size="13" fill="#222">'
    )
    paper = f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>'
    return "\n".join([head, paper, *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(picture())
