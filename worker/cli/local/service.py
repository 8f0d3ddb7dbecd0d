"""A running service for `chat` and `demo`, and the processes that commands run beside themselves.

Such a child, a Celery worker or Flower, dies with the command. Ctrl-C in the terminal does not
reach it: the command decides when it stops.
"""

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from worker.bootstrap.status import open_counts
from worker.cli import migrations
from worker.cli.console import err, print_line
from worker.cli.errors import MISUSED, CommandError
from worker.cli.local.embedded import EmbeddedServers, attached, embedded
from worker.cli.settings import settings_for
from worker.config.settings import Settings, sandbox_dir, secret_from_file
from worker.net.child_process import ChildProcess

WARM_STOP_S: Final = 100.0
"""Time for the replies in flight: a call may take 75 s, and settling it some more."""
COLD_STOP_S: Final = 3.0
_CELERY: Final = (sys.executable, "-m", "celery", "-A", "worker")
_WORKER_TIMEOUT_S: Final = 60.0
_OTHERS_TIMEOUT_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.05


@contextmanager
def service(servers: EmbeddedServers) -> Iterator[Settings]:
    """Return the settings of a running service with at least one worker.

    `servers` are embedded if no sandbox runs in this folder; without any, the configured service is
    used.
    """
    with ExitStack() as stack:
        with err.status("starting the service (the first time takes a few seconds more) …"):
            if not servers or attached():
                settings = settings_for("database_url", "broker_url")
                _await_any_worker(settings.database_url)
            else:
                stack.enter_context(embedded(servers))
                settings = settings_for("database_url", "broker_url")
                migrations.require_newest(settings.database_url)
                log = sandbox_dir() / "logs" / "worker.log"
                worker = start_worker(log=log)
                stack.callback(worker.stop, WARM_STOP_S)
                await_worker(settings.database_url, worker, log)
        yield settings


def await_worker(database_url: str, worker: ChildProcess, log: Path | None) -> None:
    """Return when it has its first heartbeat. Raises `CommandError` if it ends instead."""
    deadline = time.monotonic() + _WORKER_TIMEOUT_S
    with open_counts(database_url) as counts:
        while worker.pid not in {one.pid for one in counts.status.workers()}:
            if worker.exit_code is not None or time.monotonic() > deadline:
                raise CommandError("the worker did not start" + (f": see {log}" if log else ""))
            time.sleep(_LOOK_EVERY_S)


def _await_any_worker(database_url: str) -> None:
    """Return when one is alive: somebody may have started the service a moment ago."""
    deadline = time.monotonic() + _OTHERS_TIMEOUT_S
    with open_counts(database_url) as counts:
        while not (counts.status.revision() and counts.status.workers()):
            if time.monotonic() > deadline:
                raise CommandError(
                    "no worker is alive: `worker up` starts one, `worker status` shows more"
                )
            time.sleep(_LOOK_EVERY_S)


def start_worker(*, log: Path | None) -> ChildProcess:
    """Start a Celery worker with our environment."""
    name = f"worker-{secrets.token_hex(3)}@%h"
    # Nothing needs gossip and mingle, and without them the start takes a second less.
    arguments = ("worker", "--without-gossip", "--without-mingle", "--hostname", name)
    return ChildProcess([*_CELERY, *arguments], env={"PIN_TO_CORE": "true", **os.environ}, log=log)


def stop_worker(worker: ChildProcess, stops: Sequence[int]) -> None:
    """Let the worker finish its replies, until the second of `stops` arrives."""
    worker.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + WARM_STOP_S
    while not worker.wait(_LOOK_EVERY_S):
        if len(stops) > 1 or time.monotonic() > deadline:
            print_line("stopping at once; what was in flight is taken up at the next start")
            worker.send_signal(signal.SIGQUIT)
            if not worker.wait(COLD_STOP_S):
                worker.send_signal(signal.SIGKILL)
            return


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerAt:
    """The port of Flower on this machine, and who may look."""

    user: str = "worker"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(9), repr=False)
    generated: bool = True
    """Whether the password was generated here; a configured one is not shown."""
    port: int

    @classmethod
    def chosen(cls, port: int) -> Self:
        """Take user and password from FLOWER_BASIC_AUTH or its file; 0 = 5555, or a free port."""
        try:
            auth = secret_from_file("FLOWER_BASIC_AUTH") or os.environ.get("FLOWER_BASIC_AUTH", "")
        except ValueError as error:
            raise CommandError(f"FLOWER_BASIC_AUTH: {error}", exit_code=MISUSED) from None
        user, colon, password = auth.partition(":")
        port = port or free_port(5555)
        if colon:
            return cls(user=user, password=password, generated=False, port=port)
        return cls(port=port)


def start_flower(at: FlowerAt) -> ChildProcess:
    """Start Flower, read-only: FLOWER_READ_ONLY=false gives it buttons that stop workers.

    Secrets go by the environment: other users of the machine can read command lines.
    """
    env = {
        "FLOWER_READ_ONLY": "true",
        **os.environ,
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_PORT": str(at.port),
        "FLOWER_LOGGING": "error",
    }
    if at.generated:
        env.pop("FLOWER_BASIC_AUTH_FILE", None)
        env["FLOWER_BASIC_AUTH"] = f"{at.user}:{at.password}"
    return ChildProcess([*_CELERY, "-q", "flower"], env=env, log=None)


def free_port(wanted: int) -> int:
    """Return the wanted port if it is free, else another free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port is free")
