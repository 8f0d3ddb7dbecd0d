# mypy: disallow-untyped-calls=False
"""The life of a worker process: it starts before Celery needs the broker, and ends on SIGTERM.

start     first heartbeat, background threads, metrics, traces
SIGTERM   no new claims at once; Celery waits for the tasks that run
stop      the pool first, then the background threads, then connections
"""

import faulthandler
import sys
import time
from signal import SIGUSR1
from typing import Any

from celery import bootsteps, signals
from celery.worker import state

from worker.domain.errors import RetryableError
from worker.observability.logs import configure_logging, log

SWITCH_S = 0.05
"""How long a thread may compute before others make it give the interpreter away.

Each thread that waits for it wakes up after so long and asks; by default after 5 ms, and a thousand
of them then do little else (bench/README.md). Ours compute for less and give it away by waiting.
"""
POSTGRES_PAUSE_S = 1.0
"""Between two attempts of a worker that starts while Postgres is away."""


class RunService(bootsteps.StartStopStep):
    """Starts the service's own threads before Celery needs the broker, and stops them last."""

    # Without it, the place among Celery's steps is that in a set: another in each process.
    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **_: Any) -> None:
        super().__init__(worker)
        if worker.pool_cls.__module__ != "celery.concurrency.thread":
            raise SystemExit("this worker runs on threads: leave out -P, or give -P threads")

    def start(self, worker: Any) -> None:
        """Commit the first heartbeat, waiting for Postgres where it is away; start the threads."""
        # Celery answers this signal with stacks and local variables, which hold what people wrote.
        faulthandler.register(SIGUSR1)
        sys.setswitchinterval(SWITCH_S)
        worker.app.threads = worker.pool.executor
        while True:
            state.maybe_shutdown()
            try:
                worker.app.service.background.start()
            except RetryableError as error:
                log.warning("worker.waits_for_postgres", error=str(error))
                time.sleep(POSTGRES_PAUSE_S)
            else:
                break
        worker.app.service.start_telemetry()

    def stop(self, worker: Any) -> None:
        """End the threads when no task runs any more."""
        worker.pool.stop()  # Celery does it too, but only after this step
        worker.app.service.background.stop()
        worker.app.service.close()


def connect_signals(app: Any, *, log_level: str) -> None:
    """Have Celery log in JSON, and claim nothing more from the moment it is asked to stop."""

    def log_in_json(**_: Any) -> None:
        configure_logging(log_level)

    def stop_claiming(**_: Any) -> None:
        app.service.background.stop_claiming()

    signals.setup_logging.connect(log_in_json, weak=False)
    signals.worker_shutting_down.connect(stop_claiming, weak=False)
