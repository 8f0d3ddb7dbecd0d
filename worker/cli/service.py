"""A running service for `chat` and `demo`: the one that is there, else one started for a while."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from worker.cli.children import WARM_STOP_S, Child, start_worker
from worker.cli.console import err
from worker.cli.embedded import Parts, attached, embedded
from worker.cli.errors import CommandError
from worker.cli.needs import settings_for
from worker.settings import Settings, sandbox_dir
from worker.store.database import Database
from worker.store.status import StatusStore

_WORKER_TIMEOUT_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.05


@contextmanager
def service(parts: Parts) -> Iterator[Settings]:
    """Give the way to a running service, with at least one worker.

    `parts` are embedded where no sandbox runs in this folder; none: the configured service is used.
    """
    with ExitStack() as stack:
        log: Path | None = None
        with err.status("starting the service (the first time takes a few seconds more) …"):
            if parts and not attached():
                stack.enter_context(embedded(parts))
                log = sandbox_dir() / "logs" / "worker.log"
            settings = settings_for("database_url", "broker_url")
            if log is not None:
                worker = start_worker(log=log)
                stack.callback(worker.stop, WARM_STOP_S)
                wait_for_worker(settings.database_url, worker, log)
            elif not living_workers(settings.database_url):
                raise CommandError(
                    "no worker is alive: `worker up` starts one, `worker status` shows more"
                )
        yield settings


def living_workers(database_url: str) -> set[int]:
    """Give the process ids of workers with a heartbeat, of whatever host."""
    database = Database(database_url, pool_size=1, name="worker-cli")
    try:
        return {one.pid for one in StatusStore(database).workers()}
    finally:
        database.close()


def wait_for_worker(database_url: str, worker: Child, log: Path | None) -> None:
    """Return when it has its first heartbeat. Raises `CommandError` where it ends instead."""
    deadline = time.monotonic() + _WORKER_TIMEOUT_S
    database = Database(database_url, pool_size=1, name="worker-cli")
    status = StatusStore(database)
    try:
        while worker.pid not in {one.pid for one in status.workers()}:
            if worker.exit_code is not None or time.monotonic() > deadline:
                where = f": see {log}" if log else ""
                raise CommandError(f"the worker did not start{where}")
            time.sleep(_LOOK_EVERY_S)
    finally:
        database.close()
