"""CONTRIBUTING.md and the picture of the architecture show the folders that there are."""

import re
from pathlib import Path

import pytest

from tests.support.architecture import PICTURE, floors, picture
from tests.support.databases import ROOT

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
NAMED_PATH = re.compile(r"`((?:worker|tests|migrations|docs|bench|deploy)/[\w./-]*)`")


def tree_shown() -> dict[str, str]:
    """The folders of the drawn tree with their descriptions."""
    (drawing,) = re.findall(r"(?ms)^```text\nworker/\n(.*?)^```", CONTRIBUTING)
    shown: dict[str, str] = {}
    above: list[str] = ["worker"]
    for line in drawing.splitlines():
        found = re.fullmatch(r"((?:  )+)(\w+)/ +(\S.*)", line)
        assert found, line
        depth = len(found[1]) // 2
        above = [*above[:depth], found[2]]
        shown["/".join(above)] = found[3]
    return shown


def folders_of(top: Path) -> set[str]:
    return {str(each.parent.relative_to(ROOT)) for each in top.rglob("*/__init__.py")}


def test_the_tree_names_every_folder_of_worker() -> None:
    assert set(tree_shown()) == folders_of(ROOT / "worker")


def test_no_folder_is_too_full_to_be_read_at_a_glance() -> None:
    folders = {"worker", *folders_of(ROOT / "worker")}
    assert [one for one in folders if len(list((ROOT / one).glob("*.py"))) > 12] == []


def test_the_tree_gives_each_package_the_floor_of_the_contract() -> None:
    said = {
        path.removeprefix("worker/"): int(found[1])
        for path, text in tree_shown().items()
        if (found := re.match(r"floor (\d)", text))
    }
    real = {
        name: number
        for number, floor in enumerate(floors(), start=1)
        for name in floor
        if (ROOT / "worker" / name).is_dir()
    }
    assert said == real


def test_every_path_named_exists() -> None:
    for text in (CONTRIBUTING, ARCHITECTURE):
        named = NAMED_PATH.findall(text)
        assert named
        assert [path for path in named if not (ROOT / path).exists()] == []


def everyday_tasks() -> list[tuple[str, list[str], str]]:
    """Return each task of the table with the paths of its place and the name to look for."""
    rows = CONTRIBUTING.partition("| to | go to | look for |")[2].strip().splitlines()[1:]
    cells = [re.split(r"\s*\|\s*", row.strip("| ")) for row in rows]
    return [(task, NAMED_PATH.findall(place), name.strip("`")) for task, place, name in cells]


def test_there_are_twelve_everyday_tasks() -> None:
    assert len(everyday_tasks()) == 12


@pytest.mark.parametrize(("task", "paths", "name"), everyday_tasks())
def test_an_everyday_task_is_found_in_its_first_place(
    task: str, paths: list[str], name: str
) -> None:
    place = ROOT / paths[0]
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    text = "".join(file.read_text() for file in files)
    assert re.search(rf"\b{name}\b", text), (task, paths[0])


def test_the_picture_shows_todays_folders_and_contracts() -> None:
    assert picture() == PICTURE.read_text(), "run `python -m tests.support.architecture`"


def test_one_test_is_shown_that_exists() -> None:
    (path,) = re.findall(r"pytest (tests/\S+\.py)", CONTRIBUTING)
    assert (ROOT / path).exists()
