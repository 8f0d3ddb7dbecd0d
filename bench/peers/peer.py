"""Other queues for Python that do the floor's job, as further columns of part `fast`.

Each has an environment of its own, made on first use of the pinned requirements beside this file.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis

from bench.children import ROOT
from bench.variants import FLOOR, Variant
from tests.support.programs import UV

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer(Variant):
    """One of them; `app` is its module."""

    python: Path
    worker: tuple[str, ...]
    """The arguments of its Python that start a worker process."""
    guarantees: str
    left: Callable[[Redis, psycopg.Connection[Any]], int]
    """Counts what is queued, or taken and not acknowledged."""

    def command(self, name: str, app: str) -> list[str]:  # noqa: ARG002 - of Celery only
        """Return what starts a worker process."""
        return [str(self.python), "-m", *self.worker]

    def producer(self) -> list[str] | None:
        """Return the program that publishes to it."""
        return [str(self.python), "-m", self.app]

    def is_consuming(self, redis: Redis, database: str, processes: int) -> bool:  # noqa: ARG002
        """Return True: the first round waits until it does."""
        return True

    def is_quiet(self, redis: Redis, database: psycopg.Connection[Any]) -> bool:
        """Return whether nothing is left."""
        return self.left(redis, database) == 0


def peers(answers: int) -> list[Peer]:
    """Return all, for so many answers in flight. Raises RuntimeError if one cannot be installed."""
    return [_procrastinate(), _dramatiq(answers), _taskiq(answers)]


def _procrastinate() -> Peer:
    python = _environment("procrastinate")
    read = [python, "-m", "procrastinate", "schema", "--read"]
    schema = subprocess.run(read, capture_output=True, text=True, check=True).stdout
    unfinished = b"SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"

    def left(_: Redis, database: psycopg.Connection[Any]) -> int:
        return int((database.execute(unfinished).fetchone() or (0,))[0])

    return Peer(
        name="procrastinate",
        app="bench.peers.on_procrastinate",
        python=python,
        worker=("bench.peers.on_procrastinate", "work"),
        tables=f"{FLOOR.tables};\n{schema}",
        users=FLOOR.users,
        finished=FLOOR.finished,
        guarantees="queue in Postgres, order for each user",
        left=left,
    )


def _dramatiq(threads: int) -> Peer:
    def left(redis: Redis, _: psycopg.Connection[Any]) -> int:
        taken = sum(redis.scard(key) for key in redis.keys("dramatiq:__acks__.*"))
        return int(redis.llen("dramatiq:inbound") + taken)

    app = "bench.peers.on_dramatiq"
    return Peer(
        name="dramatiq",
        app=app,
        python=_environment("dramatiq"),
        worker=("dramatiq", app, "-p", "1", "-t", str(threads), "-Q", "inbound"),
        tables=FLOOR.tables,
        users=FLOOR.users,
        finished=FLOOR.finished,
        guarantees="queue with late acknowledgement",
        left=left,
    )


def _taskiq(tasks: int) -> Peer:
    def left(redis: Redis, _: psycopg.Connection[Any]) -> int:
        return int(redis.xpending("inbound", "taskiq")["pending"])

    app = "bench.peers.on_taskiq"
    limits = ("--max-async-tasks", str(tasks), "--max-prefetch", str(tasks))
    return Peer(
        name="taskiq",
        app=app,
        python=_environment("taskiq"),
        worker=("taskiq", "worker", f"{app}:broker", "--workers", "1", "--no-parse", *limits),
        tables=FLOOR.tables,
        users=FLOOR.users,
        finished=FLOOR.finished,
        guarantees="queue with late acknowledgement",
        left=left,
    )


def _environment(name: str) -> Path:
    """Return the Python of a peer; its folder is named after its requirements, and used again."""
    requirements = HERE / f"{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:8]
    folder = ROOT / ".peers" / f"{name}-{digest}"
    python, made = folder / "bin" / "python", folder / "made"
    if made.exists():
        return python
    for command in (
        ["venv", "--clear", "--python", sys.executable, str(folder)],
        ["pip", "install", "--python", str(python), "--requirement", str(requirements)],
    ):
        done = subprocess.run([UV, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"no environment for {name}: {done.stderr[-1000:]}")
    made.touch()
    return python
