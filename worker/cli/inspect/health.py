"""The container's health check: whether the workers of this host take entries, not only live."""

import socket

from worker.bootstrap.status import open_counts
from worker.cli.console import print_json, print_line
from worker.cli.errors import CommandError
from worker.cli.settings import settings_for


def run(*, max_stalled_s: float, as_json: bool) -> None:
    """Exit 0 if every living worker of this host takes the entries that wait in the broker."""
    settings = settings_for("database_url")
    # Only this host: a container must not be restarted for the workers of another one.
    with open_counts(settings.database_url, name="worker-health") as counts:
        workers = counts.status.workers(socket.gethostname())
    if as_json:
        print_json([{"pid": one.pid, "stalled_s": round(one.stalled_s, 1)} for one in workers])
    if not workers:
        raise CommandError("no worker of this host has a fresh heartbeat")
    stalled = [one for one in workers if one.stalled_s > max_stalled_s]
    if stalled:
        pids = ", ".join(f"{one.pid} for {one.stalled_s:.0f} s" for one in stalled)
        raise CommandError(f"entries wait in the broker and are not taken: pid {pids}")
    if not as_json:
        print_line(f"{len(workers)} worker(s) of this host take what comes")
