"""The pages of the documentation and their blocks of code."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.databases import ROOT

TOP_PAGES = [
    ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "bench/README.md")
]
DOCS_PAGES = sorted((ROOT / "docs").rglob("*.md"))
PAGES = TOP_PAGES + DOCS_PAGES


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def fences(language: str) -> list[Any]:
    """Return every block of code in that language, as a test parameter."""
    return [
        pytest.param(block, id=f"{name_of(page)}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks_of(page.read_text(), language), start=1)
    ]


def blocks_of(text: str, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", text)
