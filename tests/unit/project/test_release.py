"""One version everywhere, and each release has the commit that the upgrade test runs."""

import re
import tomllib
from typing import Any

from tests.support.databases import ROOT
from tests.support.releases import RELEASES, packed

HEADINGS = re.findall(r"(?m)^## (.+)$", (ROOT / "CHANGELOG.md").read_text())


def project(folder: str) -> dict[str, Any]:
    found = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())
    return dict(found["project"])


def test_the_changelog_has_what_is_unreleased_and_the_releases_with_their_dates() -> None:
    assert HEADINGS[0] == "Unreleased"
    for heading in HEADINGS[1:]:
        assert re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d{2}-\d{2}\)", heading), heading


def test_both_packages_have_the_version_of_the_latest_release() -> None:
    version = HEADINGS[1].partition(" ")[0]
    assert {project(".")["version"], project("client")["version"]} == {version}
    assert f"message-worker-client=={version}" in str(project(".")["dependencies"])


def test_each_release_names_its_commit() -> None:
    released = [heading.partition(" ")[0] for heading in reversed(HEADINGS[1:])]
    # A release's commit cannot name itself: the next one does.
    assert list(RELEASES) in (released, released[:-1])
    for version, commit in RELEASES.items():
        assert re.fullmatch(r"[0-9a-f]{40}", commit)
        assert packed(version).is_file()
