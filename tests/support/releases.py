"""Earlier releases, brought back to run beside this code: their program, packages and migrations.

The code is that of the release's commit, which lies in `tests/fixtures/releases/`; its packages are
those of its own lock, in an environment that is kept in `.releases/`.
"""

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.cli import bare_env
from tests.support.databases import ROOT
from tests.support.programs import UV

RELEASES: Final = {
    "0.1.0": "e65f1b676ab240ae6c412b2929fef34d8712b209",
}
"""The commit that cut each release, oldest first: CONTRIBUTING.md says how."""
LATEST: Final = list(RELEASES)[-1]
PARTS: Final = (
    *("worker", "client", "migrations", "alembic.ini"),
    *("pyproject.toml", "uv.lock", "README.md"),
)
"""What is packed of it."""


def packed(version: str) -> Path:
    """Return the archive of a release."""
    return ROOT / f"tests/fixtures/releases/{version}.tar.xz"


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release as it was, ready to run."""

    version: str
    command: tuple[str, ...]
    """What its Python is started with, in front of Python's own arguments."""

    def run(self, *arguments: str, stdin: str = "", **env: str) -> str:
        """Run its Python to the end; return what was printed. AssertionError if it fails."""
        done = subprocess.run(
            [*self.command, *arguments],
            env=bare_env(**env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"{self.version}: {done.stdout}{done.stderr}"
        return done.stdout


def restored(version: str, folder: Path) -> Release:
    """Unpack a release into an empty folder, with an environment."""
    with tarfile.open(packed(version)) as archive:
        archive.extractall(folder, filter="data")
    return ready(version, folder)


def ready(version: str, folder: Path) -> Release:
    """Give a program that lies in a folder the packages of its lock."""
    place = ROOT / ".releases" / version
    # The code is run from the folder: an installed package would be that of this checkout.
    sync = ("sync", "--quiet", "--frozen", "--no-dev", "--no-install-workspace")
    named = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    subprocess.run(
        [UV, *sync, "--python", sys.executable],
        cwd=folder,
        env={**named, "UV_PROJECT_ENVIRONMENT": str(place), "UV_COMPILE_BYTECODE": "0"},
        check=True,
    )
    path = f"PYTHONPATH={folder}:{folder / 'client'}"
    # `python -m` and Celery both look in the current folder first.
    command = ("/usr/bin/env", f"--chdir={folder}", path, str(place / "bin" / "python"))
    return Release(version=version, command=command)
