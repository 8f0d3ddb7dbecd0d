"""The upstream and the producer as children of the bench."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from bench.orders import Order
from worker.net.child_process import ChildProcess

ROOT = Path(__file__).parents[1]
_START_S = 60.0


class UpstreamProcess:
    """bench/upstream.py as a child."""

    def __init__(self, folder: Path) -> None:
        port_file = folder / "upstream.port"
        self._child = ChildProcess(
            [sys.executable, "-m", "bench.upstream", "--port-file", port_file],
            log=folder / "upstream.log",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        if not self._child.wait_until(port_file.exists, _START_S):
            raise RuntimeError(f"the upstream did not start: {folder / 'upstream.log'}")
        self.pid = self._child.pid
        self.port = int(port_file.read_text())

    def control(self, **wanted: object) -> None:
        """Set `latency_s`, `hold`, `fail_share`; `forget` clears the measurements."""
        self._ask(Request(f"http://127.0.0.1:{self.port}/control", json.dumps(wanted).encode()))

    def stats(self) -> dict[str, Any]:
        """Return `served`, `in_flight`, `most_in_flight`, `took_s`."""
        return self._ask(Request(f"http://127.0.0.1:{self.port}/stats"))

    def _ask(self, request: Request) -> dict[str, Any]:
        with urlopen(request, timeout=30) as answer:  # noqa: S310 - our own server
            found: dict[str, Any] = json.load(answer)
        return found

    def stop(self) -> None:
        """Stop the child."""
        self._child.stop()


class Producer:
    """bench/load.py as a child, or another program that reads orders."""

    def __init__(
        self,
        command: Sequence[str] = (sys.executable, "-m", "bench.load"),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def publish(self, order: Order) -> list[float]:
        """Publish all; return the wall-clock times in order of the numbers."""
        self.begin(order)
        return self.end()

    def begin(self, order: Order) -> None:
        """Start publishing, and return at once."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()

    def end(self) -> list[float]:
        """Wait for the last publish."""
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the producer ended")
        times: list[float] = json.loads(line)
        return times

    def stop(self) -> None:
        """Stop the child."""
        self._process.kill()
        self._process.communicate()
