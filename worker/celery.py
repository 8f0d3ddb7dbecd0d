# mypy: disallow-untyped-calls=False
"""The Celery app: `celery -A worker worker`. It is built at import, as Celery requires."""

import os
from dataclasses import replace
from functools import cached_property
from typing import Final

from celery import Celery

from message_worker_client.envelope.wire import INBOUND, RECEIVE
from worker.bootstrap.service import Service, build_service
from worker.bootstrap.shared import longest_lease_s
from worker.config.settings import RESERVED_THREADS, Settings, load_settings, secret
from worker.domain.errors import SettingsError
from worker.domain.timing import MAX_TASK_S
from worker.handlers.intake.route import names_in
from worker.queue.broker import ANSWER, DELIVER, DELIVERIES, EVENT, TURNS, celery_settings
from worker.queue.broker_client import BrokerClient
from worker.queue.gate.entry import RejectedEntry
from worker.queue.gate.install import install_gate
from worker.queue.lifecycle import RunService, connect_signals, register_tasks


class WorkerApp(Celery):
    """The app, and the service that its tasks call."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("worker", set_as_current=True)
        longest_task_s = MAX_TASK_S + longest_lease_s(settings)
        url, threads = settings.broker_url, settings.concurrency
        self.conf.update(celery_settings(url, concurrency=threads, longest_task_s=longest_task_s))
        self._settings = settings

    def use_threads(self, number: int) -> None:
        """Follow `-c`, which takes precedence over CONCURRENCY; before the service is built.

        Raises `SettingsError`.
        """
        if number <= RESERVED_THREADS:
            raise SettingsError(
                f"-c {number}: give a number above {RESERVED_THREADS}, as many threads only accept"
                f" and deliver; or leave it out, for CONCURRENCY ({self._settings.concurrency})"
            )
        self._settings = replace(self._settings, concurrency=number)

    @cached_property
    def service(self) -> Service:
        """The parts of this worker process; built when a worker starts, not at import."""
        settings = self._settings
        broker = BrokerClient(self, url=settings.broker_url)
        return build_service(settings, broker=broker)


FLOWER_AUTH: Final = "FLOWER_BASIC_AUTH"
FLOWER_READ_ONLY: Final = "FLOWER_READ_ONLY"
FLOWER_COLUMNS: Final = "FLOWER_TASKS_COLUMNS"


def _prepare_flower() -> None:
    """Set what `celery -A worker flower` reads next: password, read-only, columns of tasks."""
    # Flower's own default lets every viewer stop workers and send tasks, however it is started.
    if not os.environ.get(FLOWER_READ_ONLY):
        os.environ[FLOWER_READ_ONLY] = "true"
    if not os.environ.get(FLOWER_COLUMNS):
        # Its default lacks the result, which says what became of a message.
        os.environ[FLOWER_COLUMNS] = "name,uuid,state,result,received,runtime,worker"
    if auth := secret(FLOWER_AUTH):
        os.environ.pop(f"{FLOWER_AUTH}_FILE", None)
        os.environ[FLOWER_AUTH] = auth


def _build() -> WorkerApp:
    # `celery` takes BROKER_URL for its option -b, which comes before all settings: kombu would then
    # read it in its own way, options and all.
    if os.environ.get("CELERY_BROKER_URL") == os.environ.get("BROKER_URL"):
        os.environ.pop("CELERY_BROKER_URL", None)
    try:
        settings = load_settings()
        _prepare_flower()
        built = WorkerApp(settings)
    except SettingsError as error:
        raise SystemExit(f"worker: {error}") from None

    def keep(entry: RejectedEntry) -> None:
        built.service.dead_letters.keep(
            reason=entry.reason,
            raw=entry.raw,
            detail=entry.detail,
            queue=entry.queue,
            sender=entry.sender,
            names=names_in(entry.raw, built.service.receive.routing()),
        )

    # The order matters: Celery caches the task class with the first task.
    accepts = {INBOUND: [RECEIVE, EVENT], TURNS: [ANSWER], DELIVERIES: [DELIVER]}
    install_gate(built, keep=keep, accepts=accepts)
    register_tasks(built)
    built.steps["worker"].add(RunService)
    connect_signals(built, log_level=settings.log_level)
    return built


app = _build()
