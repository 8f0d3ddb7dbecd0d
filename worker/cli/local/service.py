"""A running service for `chat` and `demo`: the one that runs already, else one of our own."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from worker.bootstrap.status import open_counts
from worker.cli import migrations
from worker.cli.console import err
from worker.cli.errors import CommandError
from worker.cli.local.children import WARM_STOP_S, start_worker
from worker.cli.local.embedded import EmbeddedServers, attached, embedded
from worker.cli.settings import settings_for
from worker.config.settings import Settings, sandbox_dir
from worker.net.child_process import ChildProcess

_WORKER_TIMEOUT_S: Final = 60.0
_OTHERS_TIMEOUT_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.05


@contextmanager
def service(servers: EmbeddedServers) -> Iterator[Settings]:
    """Return the settings of a running service with at least one worker.

    `parts` are embedded if no sandbox runs in this folder; without any, the configured service is
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
