"""`worker health`. It runs every few seconds on each host: what it imports is what it costs."""

import socket
from typing import Annotated

import typer

from worker.bootstrap.reports import reading
from worker.cli.errors import CommandError
from worker.cli.options import Json
from worker.cli.text import print_json, print_text
from worker.store.workers import LivingWorkers


def health(
    *,
    max_stalled_s: Annotated[
        float, typer.Option("--max-stalled", help="Seconds of stall that are still healthy.")
    ] = 30.0,
    as_json: Json = False,
) -> None:
    """Exit 0 if the workers of this host take waiting messages; for container health checks.

    A worker with a fresh heartbeat that takes nothing while entries wait is not healthy. One whose
    Redis is down is: it goes on with the work in Postgres.
    """
    # Only this host: a container must not be restarted for the workers of another one.
    with reading("database_url", name="worker-health") as (_, database):
        workers = LivingWorkers(database).workers(socket.gethostname())
    if as_json:
        print_json([{"pid": one.pid, "stalled_s": round(one.stalled_s, 1)} for one in workers])
    if not workers:
        raise CommandError("no worker of this host has a fresh heartbeat")
    stalled = [one for one in workers if one.stalled_s > max_stalled_s]
    if stalled:
        pids = ", ".join(f"{one.pid} for {one.stalled_s:.0f} s" for one in stalled)
        raise CommandError(f"entries wait in the broker and are not taken: pid {pids}")
    if not as_json:
        print_text(f"{len(workers)} worker(s) of this host take what comes")
