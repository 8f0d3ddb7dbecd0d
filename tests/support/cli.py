"""The command line as a person runs it, with nothing configured but what the test gives.

`worker` runs it as a process of its own, `invoke` in this one: seconds faster, for commands that
start nothing.
"""

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from tests.support.processes import eventually, is_running, pids_naming
from tests.support.world import NAMESPACE, World
from worker.cli.app import app

OURS = ("DATABASE_URL", "BROKER_URL", "TELNYX_", "NAMESPACE", "AGENTS_FILE", "FLOWER_", "SANDBOX_")


def bare_env(**values: str) -> dict[str, str]:
    """The environment without any setting of ours but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return kept | {"PYTHONUNBUFFERED": "1"} | values


def worker(
    *arguments: str | Path, env: Mapping[str, str], stdin: str = "", timeout_s: float = 100
) -> subprocess.CompletedProcess[str]:
    """Run `worker ARGUMENTS` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env=bare_env(**env),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def invoke_in(
    world: World, *arguments: str | Path, agents: str | None = None, **settings: str
) -> Said:
    """Run a command against the servers of a world. `agents`: the text of its agents file."""
    if agents is not None:
        path = world.folder / "agents-of-the-command.toml"
        path.write_text(agents)
        settings["AGENTS_FILE"] = str(path)
    env = {
        "DATABASE_URL": world.database.url,
        "BROKER_URL": world.broker_url,
        "TELNYX_BASE_URL": world.simulator.base_url,
        "TELNYX_API_KEY": world.simulator.api_key,
        "NAMESPACE": str(NAMESPACE),
        "SANDBOX_DIR": str(world.folder / "none"),
    }
    return invoke(*arguments, env=env | settings)


def invoke(*arguments: str | Path, env: Mapping[str, str], stdin: str = "") -> Said:
    """Run a command within this process."""
    absent = dict.fromkeys(name for name in os.environ if name.startswith(OURS))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = CliRunner().invoke(
            app, [str(one) for one in arguments], env={**absent, **env}, input=stdin
        )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Said(returncode=done.exit_code, stdout=done.stdout, stderr=done.stderr)


@dataclass(frozen=True)
class Up:
    """A running `worker up`."""

    process: subprocess.Popen[bytes]
    output: Path
    env: Mapping[str, str]

    def says(self, text: str) -> bool:
        """Whether it has said this by now."""
        return text in self.output.read_text(errors="replace")

    def await_text(self, text: str, *, timeout_s: float = 60) -> None:
        """Wait until it says this."""
        said = eventually(
            lambda: self.says(text) or self.process.poll() is not None, timeout_s=timeout_s
        )
        assert said, self.output.read_text(errors="replace")
        assert self.says(text), self.output.read_text(errors="replace")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def exit_code(self, *, timeout_s: float = 60) -> int:
        """Wait for its end."""
        return self.process.wait(timeout_s)

    def children(self) -> set[int]:
        """What it started, and what runs with its environment."""
        started = descendants(self.process.pid)
        return (started | pids_with(self.env["SANDBOX_DIR"])) - {self.process.pid}

    def celery_worker(self) -> int:
        """The process id of its Celery worker."""
        (found,) = self.children() & pids_naming("-A\0worker\0worker")
        return found


def descendants(parent: int) -> set[int]:
    """The running processes below this one: Redis, for one, hides its environment."""
    below: dict[int, set[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            ppid = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            below.setdefault(ppid, set()).add(int(entry.name))
    found: set[int] = set()
    new = {parent}
    while new:
        new = set().union(*(below.get(one, set()) for one in new))
        found |= new
    return {pid for pid in found if is_running(pid)}


def pids_with(sandbox: str) -> set[int]:
    """The running processes that have this SANDBOX_DIR, or name it on their command line."""
    found = pids_naming(sandbox)
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"SANDBOX_DIR={sandbox}".encode() in variables and is_running(int(entry.name)):
            found.add(int(entry.name))
    return found


@contextmanager
def worker_up(*arguments: str, env: Mapping[str, str], output: Path) -> Iterator[Up]:
    """Start `worker up`; at the end it is killed, if it still runs, and everything with it."""
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", "up", *arguments],
            env=bare_env(**env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    up = Up(process=process, output=output, env=env)
    try:
        yield up
    finally:
        process.kill()
        process.wait()
        for pid in up.children():
            os.kill(pid, signal.SIGKILL)
