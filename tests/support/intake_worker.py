"""Runs a real Celery worker over `intake_app.py`, and makes entries for it."""

import base64
import json
import os
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis import Redis

from tests.support.forked import ForkedProcess
from worker.sandbox.redis import EmbeddedRedis

TESTS = Path(__file__).parents[1]
FIXTURES = TESTS / "fixtures" / "redis_entries"
INDEX: list[dict[str, Any]] = json.loads((FIXTURES / "index.json").read_text())
CANARY = "CANARY-b7e1"


class Worker:
    """One worker process on queues `inbound` and `turns`, and what it leaves behind in `folder`."""

    def __init__(self, redis: EmbeddedRedis, folder: Path, **env: str) -> None:
        self.client = Redis.from_url(redis.url)
        self.broker = redis.url
        self.folder = folder
        self._env = {"INTAKE_BROKER": self.broker, "INTAKE_DIR": str(folder), **env}
        self.processes: list[ForkedProcess] = []

    def start(self, *options: str, queues: str = "inbound,turns") -> None:
        program = ["celery", "-A", "intake_app:app", "worker", "-E"]
        program += ["--pool", "threads", "--concurrency", "8", "-Q", queues, "--loglevel", "DEBUG"]
        program += ["--without-mingle", "--without-gossip"]
        paths = os.pathsep.join([str(TESTS / "integration" / "intake"), str(TESTS.parent)])
        env = os.environ | self._env | {"PYTHONPATH": paths}
        log = self.folder / "output"
        self.processes.append(ForkedProcess(*program, *options, log=log, env=env))

    def push(self, *entries: bytes, queue: str = "inbound") -> None:
        for entry in entries:
            self.client.lpush(queue, entry)

    def rows(self, name: str = "rows") -> list[dict[str, Any]]:
        file = self.folder / f"{name}.jsonl"
        written = file.read_text() if file.exists() else ""
        whole, _, _begun = written.rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def runs(self) -> list[dict[str, Any]]:
        return self.rows("runs")

    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def times_put_back(self) -> int:
        return len(re.findall(r"^\[.* reject requeue=True", self.output(), re.MULTILINE))

    def peak_mb(self) -> float:
        """The most memory that the newest worker has had at a time."""
        status = Path(f"/proc/{self.processes[-1].pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024

    def is_idle(self) -> bool:
        keys = [b"inbound", b"turns", b"unacked", b"unacked_index"]
        return self.client.exists(*keys) == 0

    def wait(self, ready: Callable[[], bool], timeout_s: float = 40) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            assert self.processes[-1].is_running, self.output()[-3000:]
            assert time.monotonic() < deadline, self.output()[-3000:]
            time.sleep(0.05)

    def wait_for(self, *, rows: int = 0, runs: int = 0) -> None:
        self.wait(lambda: len(self.rows()) >= rows and len(self.runs()) >= runs)
        self.wait(self.is_idle)
        assert (len(self.rows()), len(self.runs())) == (rows, runs)

    def wait_until_ready(self) -> None:
        self.wait(lambda: " ready." in self.output())

    def stop(self) -> None:
        """Kill what still runs: how it ends when it is asked to is a test of its own."""
        for process in self.processes:
            process.kill()
        self.client.close()


def fixture(name: str) -> bytes:
    return (FIXTURES / f"{name}.bin").read_bytes()


def call(task: str, *, body: object = None, **properties: object) -> bytes:
    """A good entry for this task, with the canary as its argument."""
    body = [[], {"envelope": CANARY}, {}] if body is None else body
    entry = json.loads(fixture("good_python"))
    entry["headers"] |= {"task": task, "id": str(uuid.uuid4())}
    entry["properties"] |= {"delivery_tag": str(uuid.uuid4())} | properties
    return json.dumps(
        entry | {"body": base64.b64encode(json.dumps(body).encode()).decode()}
    ).encode()


def wake(number: int) -> bytes:
    return call("channel_users.answer", body=[[number], {}, {}])


def assert_tells_nothing(text: str) -> None:
    """The canary in plain, and in base64 at each of its three alignments."""
    forms = [CANARY] + [
        base64.b64encode(b" " * n + CANARY.encode()).decode()[4:14] for n in range(3)
    ]
    for form in forms:
        assert form not in text
