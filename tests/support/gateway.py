"""Real `worker gateway` and `worker console` processes, and what Telnyx does.

It sends again until the answer is 200.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from tests.support.fleet import ROOT, START_TIMEOUT_S, Fleet
from tests.support.telnyx_events import PUBLIC_KEY, signed
from tests.support.world import NAMESPACE
from worker.net.child_process import ChildProcess


class GatewayProcess:
    """One process. `port`: 0 = a free one."""

    COMMAND: ClassVar[tuple[str, ...]] = ("gateway", "--share-port")

    def __init__(
        self, folder: Path, settings: Mapping[str, str], *, port: int = 0, name: str = ""
    ) -> None:
        self.log = folder / f"{name or self.COMMAND[0]}.log"
        self._process = ChildProcess(
            [sys.executable, "-m", "worker", *self.COMMAND, "--port", str(port)],
            log=self.log,
            env={
                **os.environ,
                "NAMESPACE": str(NAMESPACE),
                "SANDBOX_DIR": str(folder / "no-sandbox"),
                "PYTHONPATH": str(ROOT),
                "TELNYX_PUBLIC_KEY": PUBLIC_KEY,
                **settings,
            },
        )
        found = self._process.wait_until(
            lambda: f"{self.COMMAND[0]}.started" in self.output(), START_TIMEOUT_S
        )
        assert found, self.output()[-3000:]
        self.port = int(re.findall(r"http://127\.0\.0\.1:(\d+)", self.output())[0])

    @classmethod
    def beside(cls, fleet: Fleet, *, port: int = 0, name: str = "", **more: str) -> Self:
        """Start one on the servers of a fleet."""
        agents = fleet.folder / f"{cls.COMMAND[0]}-agents.toml"
        agents.write_text(fleet.agents)
        settings = {
            "DATABASE_URL": fleet.database_url,
            "BROKER_URL": fleet.broker_url,
            "TELNYX_BASE_URL": fleet.telnyx_base_url,
            "TELNYX_API_KEY": fleet.telnyx_api_key,
            "AGENTS_FILE": str(agents),
        }
        return cls(fleet.folder, settings | more, port=port, name=name)

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()

    def exit_code(self, timeout_s: float = 20.0) -> int | None:
        """Wait for its end; None = it still runs."""
        self._process.wait(timeout_s)
        return self._process.exit_code


class ConsoleProcess(GatewayProcess):
    """One `worker console`."""

    COMMAND: ClassVar = ("console",)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def request_of(body: bytes, **more: str) -> tuple[bytes, bytes]:
    """Return head and body of a webhook, as they go over a connection that the answer closes."""
    headers = {
        "host": "gateway",
        "content-length": str(len(body)),
        "connection": "close",
        **signed(body),
        **more,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /telnyx/messaging HTTP/1.1\r\n{head}\r\n".encode(), body


def deliver(
    ports: Sequence[int],
    bodies: Sequence[bytes],
    *,
    at_once: int = 20,
    attempts: int = 6,
    after: Callable[[int], None] = lambda _: None,
) -> set[int]:
    """Send each until it is answered with 200; return the numbers of those that were.

    `after`: called with the number of answers so far, while others are sent.
    """
    return asyncio.run(_deliver(ports, bodies, at_once, attempts, after))


async def _deliver(
    ports: Sequence[int],
    bodies: Sequence[bytes],
    at_once: int,
    attempts: int,
    after: Callable[[int], None],
) -> set[int]:
    left, done = list(reversed(range(len(bodies)))), set[int]()

    async def sender() -> None:
        while left:
            number = left.pop()
            for attempt in range(attempts):
                # Three times each, as Telnyx; half of them begin with the failover URL.
                port = ports[(number + attempt // 3) % len(ports)]
                if await _status(port, bodies[number]) == 200:
                    done.add(number)
                    break
                await asyncio.sleep(0.2)
            await asyncio.to_thread(after, len(done))

    await asyncio.gather(*(sender() for _ in range(at_once)))
    return done


async def _status(port: int, body: bytes) -> int | None:
    try:
        async with asyncio.timeout(2):  # as Telnyx
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.writelines(request_of(body))
            head = await reader.readline()
            writer.close()
    except (OSError, TimeoutError):
        return None
    return int(head.split()[1]) if head else None
