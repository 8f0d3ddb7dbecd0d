"""The demo and the fault smoke over other versions of what we stand on (`make matrix`).

    Python      3.11, 3.12, 3.13, each with an environment of its own
    Postgres    18 of the sandbox, 16 from the wheel `pgserver`, and every one of Debian
    Redis       of the sandbox, and `redis-server` and `valkey-server` where they are installed
    PgBouncer   where it is installed

What is not on this machine is shown as such, and is no fault. The exit code is 1 if a run failed.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.support.programs import UV

ROOT: Final = Path(__file__).parents[2]
HERE: Final = ROOT / ".matrix"
"""Environments and wheels; they are used again, and `make clean` removes them."""
SMOKE: Final = (
    "tests/faults/intake/test_worker_process.py",
    "tests/integration/intake/test_mistakes.py",
    "tests/integration/intake/test_not_before.py",
    "tests/integration/intake/test_sql_producer.py",
    "tests/migrations",
)
OF_POOLER: Final = ("tests/integration/turns/test_session_settings.py",)
PGSERVER: Final = "pgserver==0.1.4"
PYTHONS: Final = ("3.11", "3.12", "3.13")
LONGEST_S: Final = 900.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """One version under test. `missing`: why it cannot be tried here."""

    name: str
    python: Path = Path(sys.executable)
    env: Mapping[str, str] = field(default_factory=dict)
    tests: tuple[str, ...] = SMOKE
    demo: bool = False
    missing: str | None = None


def runs() -> Iterator[Run]:
    """Return the versions, each changing one thing against the sandbox."""
    for version in PYTHONS:
        yield _of_python(version)
    wheel = HERE / "pgserver"
    if not wheel.exists():
        _uv("pip", "install", "-q", "--python", sys.executable, "--target", str(wheel), PGSERVER)
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    for programs in (wheel / "pgserver" / "pginstall" / "bin", *debian):
        yield Run(name=_version(programs / "postgres"), env={"MATRIX_POSTGRES": str(programs)})
    for server in ("redis-server", "valkey-server"):
        yield _of_redis(server)
    bouncer = shutil.which("pgbouncer")
    missing = None if bouncer else "not installed"
    name = _version(Path(bouncer)) if bouncer else "PgBouncer"
    yield Run(name=name, tests=OF_POOLER, missing=missing)


def _of_python(version: str) -> Run:
    name = f"Python {version}"
    # Of pyenv, which puts a program for every version on PATH, this chooses the one that runs.
    env = os.environ | {"PYENV_VERSION": version}
    found = subprocess.run(
        ["/usr/bin/env", f"python{version}", "-c", "import sys; print(sys.executable)"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        return Run(name=name, missing="not installed")
    folder = HERE / f"python-{version}"
    chosen = {"UV_PROJECT_ENVIRONMENT": str(folder), "UV_PYTHON": found.stdout.strip()}
    _uv("sync", "--quiet", "--frozen", "--all-extras", "--all-packages", env=chosen)
    return Run(name=name, python=folder / "bin" / "python", demo=True)


def _of_redis(server: str) -> Run:
    # Not the one of the sandbox, which is beside this Python.
    elsewhere = [one for one in os.get_exec_path() if Path(one) != Path(sys.prefix) / "bin"]
    program = shutil.which(server, path=os.pathsep.join(elsewhere))
    if program is None:
        return Run(name=server, missing="not installed")
    # The sandbox prefers `redis-server` on PATH to its own; a Valkey gets that name.
    folder = HERE / server
    folder.mkdir(exist_ok=True)
    link = folder / "redis-server"
    link.unlink(missing_ok=True)
    link.symlink_to(program)
    return Run(
        name=_version(Path(program)), env={"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    )


def _version(program: Path) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return said.stdout.splitlines()[0].split(" sha=")[0]


def _uv(*command: str, env: Mapping[str, str] | None = None) -> None:
    subprocess.run([UV, *command], cwd=ROOT, env=os.environ | (env or {}), check=True)


def tried(run: Run) -> tuple[str, float]:
    """Run the demo and the tests; return the verdict and the seconds."""
    began = time.monotonic()
    commands = [["-m", "pytest", "-q", "-n", "2", *run.tests]]
    if run.demo:
        commands.insert(0, ["-m", "worker", "demo"])
    env = {**os.environ, "SANDBOX_DIR": str(HERE / "sandbox"), **run.env}
    for command in commands:
        done = subprocess.run(
            [run.python, *command],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_S,
        )
        if done.returncode:
            print(done.stdout[-6000:], done.stderr[-2000:], file=sys.stderr)
            return "FAILED", time.monotonic() - began
    return "passed", time.monotonic() - began


def main() -> int:
    """Try all of them, and print a table."""
    HERE.mkdir(exist_ok=True)
    table = Table("version", "demo and fault smoke", "seconds")
    failed = False
    for run in runs():
        verdict, seconds = (run.missing, 0.0) if run.missing else tried(run)
        failed = failed or verdict == "FAILED"
        print(f"{run.name}: {verdict}, {seconds:.0f} s", flush=True)
        table.add_row(run.name, verdict, f"{seconds:.0f}")
    Console().print(table)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
