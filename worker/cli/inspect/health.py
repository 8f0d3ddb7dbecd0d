"""The container's health check: whether a worker of this host consumes, not merely lives."""

import socket
from typing import Final

from worker.cli.console import say, say_json
from worker.cli.errors import CommandError
from worker.cli.settings import settings_for
from worker.store.database import Database
from worker.store.workers import living_workers


def run(*, max_stalled_s: float, as_json: bool) -> None:
    """Exit 0 where every living worker of this host takes what waits in the broker."""
    settings = settings_for("database_url")
    database = Database(settings.database_url, pool_size=1, name="worker-health")
    try:
        with database.statement() as connection:
            workers = living_workers(connection, socket.gethostname())
    finally:
        database.close()
    if as_json:
        say_json([{"pid": one.pid, "stalled_s": round(one.stalled_s, 1)} for one in workers])
    if not workers:
        raise CommandError("no worker of this host has a fresh heartbeat")
    stalled = [one for one in workers if one.stalled_s > max_stalled_s]
    if stalled:
        pids = ", ".join(f"{one.pid} for {one.stalled_s:.0f} s" for one in stalled)
        raise CommandError(f"entries wait in the broker and are not taken: pid {pids}")
    if not as_json:
        say(f"{len(workers)} worker(s) of this host take what comes")


DEFAULT_MAX_STALLED_S: Final = 30.0
