"""This service as it was before the work on its cost, as one more column of part `fast`."""

import subprocess
import tarfile
from dataclasses import dataclass
from io import BytesIO

from bench.children import ROOT
from bench.variants import OURS, Variant
from tests.support.releases import PARTS, Release, ready

NAME = "before"
COMMIT = "e45ac77"
"""The bars that compare with this service as it was then, do so with this commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before(Variant):
    """Its program with the packages of its lock."""

    program: Release

    def create_tables(self, url: str) -> None:
        """Migrate as it did."""
        self.program.run("-m", "worker", "migrate", DATABASE_URL=url)

    def command(self, name: str, app: str) -> list[str]:
        """Return what starts a worker process."""
        return [*self.program.command, *Variant.command(self, name, app)[1:]]


def before() -> Before:
    """Unpack it on first use. Raises RuntimeError if this clone has no such commit."""
    folder = ROOT / ".peers" / COMMIT
    if not folder.exists():
        archive = subprocess.run(
            ["git", "archive", COMMIT, *PARTS], cwd=ROOT, capture_output=True, check=False
        )
        if archive.returncode:
            raise RuntimeError(f"no commit {COMMIT}: {archive.stderr.decode()[-300:]}")
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
    return Before(
        name=NAME,
        app=OURS.app,
        extra_threads=OURS.extra_threads,
        # A copy of the template would have today's tables.
        tables="SELECT",
        users=OURS.users,
        finished=OURS.finished,
        program=ready(COMMIT, folder),
    )
