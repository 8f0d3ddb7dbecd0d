"""Removing one protection at a time: a test must notice each (`make mutants`).

Every *.patch beside this file takes one protection out of worker/. Its header names the protection
and the tests that must fail without it:

    # protection: fence
    # tests: tests/faults/state_machine/test_overtaken.py

Each is applied to a copy of the checkout, uncommitted changes included. The exit code is 0 only
where the copy without a patch passes and every patch applies and is noticed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LONGEST_S = 300.0
"""No run of the tests takes longer; one that does proves nothing."""
TESTS_FAILED = 1
"""pytest's exit code; others say that it could not even run them."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A patch and what its header says."""

    patch: Path
    protection: str
    tests: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of one run."""

    name: str
    good: bool
    said: str
    took_s: float


def main() -> int:
    """Run everything, print a table; give the exit code."""
    mutants = [read(path) for path in sorted(HERE.glob("*.patch"))]
    if not mutants:
        print("there is no patch beside this file")
        return 1
    every = tuple(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(2) as pool:
        whole = pool.submit(run_whole, Path(folder) / "whole", every)
        patched = [pool.submit(run_mutant, Path(folder), mutant) for mutant in mutants]
        verdicts = [future.result() for future in (whole, *patched)]
    width = max(len(verdict.name) for verdict in verdicts)
    for verdict in verdicts:
        mark = "ok  " if verdict.good else "FAIL"
        print(f"{mark} {verdict.name:{width}}  {verdict.took_s:5.1f} s  {verdict.said}")
    killed = sum(verdict.good for verdict in verdicts[1:])
    print(f"{killed} of {len(mutants)} mutants killed")
    return 0 if all(verdict.good for verdict in verdicts) else 1


def read(path: Path) -> Mutant:
    """Read a patch's header. Raises ValueError where it names no protection or no test."""
    said: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        name, _, value = line.removeprefix("#").partition(":")
        said[name.strip()] = f"{said.get(name.strip(), '')} {value.strip()}".strip()
    tests = tuple(said.get("tests", "").split())
    if not tests or "protection" not in said:
        raise ValueError(f"{path.name}: the header names no protection or no tests")
    return Mutant(patch=path, protection=said["protection"], tests=tests)


def run_whole(folder: Path, tests: Sequence[str]) -> Verdict:
    """Run the tests of all mutants on an unchanged copy: they must pass."""
    started = time.monotonic()
    copy(folder)
    code, last = pytest(folder, tests)
    return Verdict(
        name="without a patch", good=code == 0, said=last, took_s=time.monotonic() - started
    )


def run_mutant(parent: Path, mutant: Mutant) -> Verdict:
    """Run a mutant's tests on a copy with its patch: at least one must fail."""
    started = time.monotonic()
    folder = parent / mutant.patch.stem
    copy(folder)
    applied = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", str(mutant.patch)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if applied.returncode:
        said, good = f"the patch does not apply: {applied.stderr.strip()}", False
    else:
        code, last = pytest(folder, mutant.tests)
        good = code == TESTS_FAILED
        said = last if good or code else f"SURVIVED: {last}"
    name = f"{mutant.patch.stem} ({mutant.protection})"
    return Verdict(name=name, good=good, said=said, took_s=time.monotonic() - started)


def copy(folder: Path) -> None:
    """Copy what git knows of the checkout and what it would let in."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def pytest(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests on the code of a copy; give pytest's exit code and its last line."""
    quiet = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts="]
    arguments = [sys.executable, "-m", "pytest", *quiet, "--import-mode=importlib", *tests]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    check = "import worker, sys; sys.exit(not worker.__file__.startswith(sys.argv[1]))"
    ours = [sys.executable, "-c", check, str(folder)]
    if subprocess.run(ours, cwd=folder, env=environment, check=False).returncode:
        return 2, "the tests would run on other code than the copy's"
    try:
        done = subprocess.run(
            arguments,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 2, f"no end after {LONGEST_S:g} s"
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    lines = failed or done.stdout.strip().splitlines() or done.stderr.strip().splitlines()
    return done.returncode, (lines or ["it said nothing"])[-1][:140]


if __name__ == "__main__":
    sys.exit(main())
