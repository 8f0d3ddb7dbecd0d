# mypy: disallow-untyped-calls=False
"""The Celery app: `celery -A worker worker`. It is built at import, as Celery requires.

Celery wakes and spreads the work; Postgres is the record. So every setting here prefers doing
something twice, which is harmless, over losing it.
"""

import os
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

from celery import Celery

from message_worker_client.broker_url import read_broker_url
from message_worker_client.envelope.wire import INBOUND, RECEIVE
from worker.bootstrap.service import Service, build_service
from worker.bootstrap.shared import longest_lease_s
from worker.config.settings import (
    RESERVED_THREADS,
    Settings,
    checked_secret,
    load_settings,
    secret_from_file,
)
from worker.domain.errors import SettingsError
from worker.handlers.intake.route import names_in
from worker.handlers.turns.answer import MAX_TASK_S
from worker.queue.broker import (
    ANSWER,
    DELIVER,
    DELIVERIES,
    QUEUES,
    TURNS,
    broker_settings,
    queue_options,
)
from worker.queue.broker_client import BrokerClient
from worker.queue.gate.entry import RejectedEntry
from worker.queue.gate.install import install_gate
from worker.queue.lifecycle import RunService, connect_signals, register_tasks


def celery_settings(settings: Settings, *, longest_task_s: float) -> dict[str, Any]:
    """Return Celery's settings. Most were chosen for the case that a process or a server dies."""
    broker = read_broker_url(settings.broker_url)
    return {
        # Without its options: kombu would read them in its own way.
        "broker_url": broker.bare,
        "broker_use_ssl": broker.use_ssl,
        "broker_connection_retry_on_startup": True,
        # By default a worker ends after 100 attempts. Without a broker, Postgres still has work.
        "broker_connection_max_retries": None,
        # Otherwise an error reply of Redis (memory full, a wrong type) ends the worker.
        "broker_channel_error_retry": True,
        **broker_settings(settings.broker_url, longest_task_s=longest_task_s),
        # Acknowledge after the commit: a worker that dies before it leaves its messages to others.
        "task_acks_late": True,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_queues": {name: queue_options(settings.broker_url) for name in QUEUES},
        "task_default_queue": INBOUND,
        "task_routes": {
            RECEIVE: {"queue": INBOUND},
            ANSWER: {"queue": TURNS},
            DELIVER: {"queue": DELIVERIES},
        },
        # Prefork needs 90 MB a process; gevent stalls with Redis and late acks.
        "worker_pool": "threads",
        "worker_concurrency": settings.concurrency,
        # With more, messages would wait in a busy process while another one is idle.
        "worker_prefetch_multiplier": 1,
        # For Flower.
        "worker_send_task_events": True,
        # Celery would otherwise replace our handlers, see `configure_logging`.
        "worker_hijack_root_logger": False,
        "worker_enable_remote_control": True,
        # With Celery's own names, `control` and Flower of each application in a Redis reach the
        # workers of all others.
        "control_exchange": "worker",
        "event_exchange": "workerev",
    }


class WorkerApp(Celery):
    """The app, and the service that its tasks call."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("worker", set_as_current=True)
        longest_task_s = MAX_TASK_S + longest_lease_s(settings)
        self.conf.update(celery_settings(settings, longest_task_s=longest_task_s))
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
    if auth := secret_from_file(FLOWER_AUTH):
        del os.environ[f"{FLOWER_AUTH}_FILE"]
        os.environ[FLOWER_AUTH] = auth
    elif auth := os.environ.get(FLOWER_AUTH):
        try:
            checked_secret(auth)
        except ValueError as error:
            raise SettingsError(f"{FLOWER_AUTH}: {error}") from None


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
    accepts = {INBOUND: [RECEIVE], TURNS: [ANSWER], DELIVERIES: [DELIVER]}
    install_gate(built, keep=keep, accepts=accepts)
    register_tasks(built)
    built.steps["worker"].add(RunService)
    connect_signals(built, log_level=settings.log_level)
    return built


app = _build()
