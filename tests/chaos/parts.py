"""The parts of a campaign that can be hurt: Telnyx as a process, and a look into Postgres."""

import base64
import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
from nacl.signing import SigningKey

from tests.chaos.mix import TELNYX_FAULTS, TELNYX_SETTINGS
from tests.support.fleet import ROOT
from tests.support.world import Database
from worker.net.child_process import ChildProcess
from worker.sandbox.server import SandboxError, log_tail
from worker.sandbox.simulator import Entry, read_log

API_KEY = "KEY-chaos"
_START_S = 60.0
_PATIENCE_S = 30.0
_POLL_S = 0.05
_MOST_STARTS = 100


def free_port() -> int:
    """Ask the kernel for a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class TelnyxProcess:
    """The simulator on a port that stays; killed and started again it goes on from its log."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.port = free_port()
        self._state = folder / "telnyx"
        self._log = folder / "telnyx.log"
        self._seed = seed
        self._starts = 0
        self._poisoned: set[str] = set()
        self._chances = dict(TELNYX_FAULTS)
        self._child: ChildProcess | None = None

    def start(self) -> None:
        """Start it; returns when it answers."""
        settings = {**TELNYX_SETTINGS, "api_key": API_KEY, "fault_chances": self._chances}
        words = [f"{name}={_json(value)}" for name, value in settings.items()]
        self._child = child = ChildProcess(
            [
                *(sys.executable, "-m", "worker", "sim", "--port", str(self.port)),
                *("--log", str(self._state / "telnyx.jsonl")),
                *("--seed", str(self._seed_of(self._starts))),
                *(part for word in words for part in ("--switch", word)),
            ],
            log=self._log,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._starts += 1
        if not child.wait_until(self._answers, _START_S):
            raise SandboxError(f"the simulator did not start:\n{log_tail(self._log)}")
        self.poison()

    def public_keys(self) -> list[str]:
        """Return those that its events are signed with: each start has another one."""
        seeds = (self._seed_of(start) for start in range(_MOST_STARTS))
        digests = (hashlib.sha256(f"webhooks {seed}".encode()).digest() for seed in seeds)
        return [base64.b64encode(SigningKey(one).verify_key.encode()).decode() for one in digests]

    def _seed_of(self, start: int) -> int:
        return self._seed * 1000 + start

    def kill(self) -> None:
        """SIGKILL; what it had logged stays."""
        if self._child is not None:
            self._child.kill()

    def steer(self, what: str, **body: object) -> None:
        """Post to one of the controls under /sim."""
        answer = httpx.post(
            f"http://127.0.0.1:{self.port}/sim/{what}", json=body, timeout=_PATIENCE_S
        )
        answer.raise_for_status()

    def poison(self, *conversations: str) -> None:
        """Refuse these conversations from now on, also after a restart, which forgets orders."""
        fresh = list(conversations) or sorted(self._poisoned)
        self._poisoned |= set(conversations)
        for one in fresh:
            match = {"conversation_id": one, "endpoint": "responses"}
            self.steer("faults", fault="400", match=match, count=None)

    def be_well(self) -> None:
        """No faults, no stale reads, the right key."""
        self._chances = {}
        self.steer("config", fault_chances={}, messages_stale_s=0.0, api_key=API_KEY)

    def log(self) -> tuple[Entry, ...]:
        """Read everything that happened."""
        return read_log(self._state / "telnyx.jsonl")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return True
        except OSError:
            return False


class Looker:
    """Reads Postgres past the proxy, and comes back when it was away."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._database: Database | None = None

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """Read rows; waits for Postgres, but not for ever."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._connected().rows(query, *values)
            except psycopg.OperationalError:
                self.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL_S)

    def value(self, query: str, *values: object) -> Any:  # noqa: ANN401 - whatever is there
        (row,) = self.rows(query, *values)
        (value,) = row.values()
        return value

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _connected(self) -> Database:
        if self._database is None:
            self._database = Database(self._url())
        return self._database


def _json(value: object) -> str:
    return json.dumps(value)
