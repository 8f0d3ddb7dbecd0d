"""A worker and `worker metrics` with a bit of everything behind them, to be scraped."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.fleet import Ground, RealWorker, agents_file, fresh_ground
from tests.support.processes import eventually
from worker.net.child_process import ChildProcess
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import Match

AGENTS = agents_file(
    more="""tools = ["refund"]
[tools.refund]
function = "tests.support.toolbox:refund"
[agents.default.hand_over]
notify = "desk"
[agents.careful]
approve = "all"
[channels.web.delivery]
task = "replies.deliver"
queue = "replies"
[routes.desk.delivery]
task = "desk.told"
queue = "desk"
"""
)
CANARY = "canary-4711"
"""In everything that people write and are."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What runs, and where it shows its metrics."""

    ground: Ground
    worker: RealWorker
    files: Path
    """The folder for Prometheus's `file_sd`."""
    overall: str
    """host:port of `worker metrics`."""

    @property
    def target(self) -> str:
        """host:port of the worker, as its file says."""
        (file,) = self.files.glob("*.json")
        (group,) = json.loads(file.read_text())
        found: str = group["targets"][0]
        return found


def scraped(target: str) -> str:
    """What a process shows."""
    return httpx.get(f"http://{target}/metrics", timeout=20).text


@contextmanager
def watched(postgres: EmbeddedPostgres, redis: EmbeddedRedis) -> Iterator[Watched]:
    """Start a worker, have it do a bit of everything, then start `worker metrics`."""
    with fresh_ground(postgres, broker_url=redis.url, agents=AGENTS) as ground:
        folder = ground.fleet.folder
        files = folder / "file_sd"
        files.mkdir()
        (files / "note.txt").write_text("of somebody else")
        (worker,) = ground.fleet.start(METRICS_PORT="0", METRICS_FILE_SD_DIR=str(files))
        live(ground)
        log = folder / "metrics.log"
        process = ChildProcess(
            [sys.executable, "-m", "worker", "metrics", "--port", "0"],
            log=log,
            env=settings_of(ground, folder),
        )
        try:
            assert eventually(lambda: "/metrics" in log.read_text()), log.read_text()
            (overall,) = re.findall(r"http://(\S+)/metrics", log.read_text())
            yield Watched(ground=ground, worker=worker, files=files, overall=overall)
        finally:
            process.stop()


def settings_of(ground: Ground, folder: Path) -> dict[str, str]:
    fleet = ground.fleet
    return {
        "DATABASE_URL": fleet.database_url,
        "BROKER_URL": fleet.broker_url,
        "SANDBOX_DIR": str(folder / "no-sandbox"),
        "PYTHONUNBUFFERED": "1",
    }


def live(ground: Ground) -> None:
    """Messages that are answered, refused once, use a tool, are skipped; one that is none.

    Also a draft, and somebody who asks for a person.
    """
    users = [f"{CANARY}-{number}@example.org" for number in range(6)]
    ground.simulator.inject("429_retry_after", match=Match(text="busy"), retry_after_s=0.1)
    envelope = ground.envelope
    ground.fleet.send(
        envelope(f"hello {CANARY}", user=users[0]),
        envelope('tool:refund {"order": 7}', user=users[1]),
        envelope(f"busy {CANARY}", user=users[2]),
        envelope(f"STOP {CANARY}", user=users[3], signals=["opt_out"]),
        envelope(f"carefully {CANARY}", user=users[4], agent="careful"),
        envelope("HUMAN", user=users[5]),
        {"version": 1, "channel": "web", "user": CANARY},
    )
    ground.wait_until_final(*users, messages=6)
    ground.database.run(
        "INSERT INTO gates (name, closed_until, reason)"
        " VALUES ('agent:gone', service_now() + interval '1 hour', 'status 404')"
    )
    ground.fleet.wait_for(
        lambda: ground.database.value("SELECT count(*) FROM deliveries WHERE state = 'sent'") == 4
    )
    ground.fleet.wait_for(lambda: ground.database.value("SELECT count(*) FROM dead_letters") == 1)
