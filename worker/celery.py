# mypy: disallow-untyped-calls=False
"""The Celery app: `celery -A worker worker`. Built at import, as Celery wants it.

Celery wakes and spreads the work; the record is Postgres. So every setting here prefers doing a
thing twice, which is harmless, over losing it.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from celery import Celery
from celery.worker import state
from kombu.entity import Queue

from worker.bootstrap.service import Service, build_service
from worker.bootstrap.shared import longest_lease_s
from worker.channels.task import NotPublishedError
from worker.config.settings import Settings, SettingsError, load_settings, secret_from_file
from worker.domain.ids import ChannelUserId
from worker.envelope.wire import INBOUND, RECEIVE
from worker.handlers.background.sweeper import CannotPublishError
from worker.handlers.background.watchdog import BrokerAwayError
from worker.handlers.turns.answer import MAX_TASK_S
from worker.observability import traces
from worker.observability.logs import log
from worker.queue import broker, tasks
from worker.queue.broker import (
    ANSWER,
    DELIVER,
    DELIVERIES,
    QUEUES,
    TURNS,
    broker_settings,
    queue_options,
    waiting_entries,
)
from worker.queue.gate.install import install_gate
from worker.queue.gate.rejected_entry import RejectedEntry
from worker.queue.lifecycle import RunService, connect_signals
from worker.store.turns.due_users import Due


def celery_settings(settings: Settings, *, longest_task_s: float) -> dict[str, Any]:
    """Give Celery's settings; each was chosen for what happens when something dies."""
    return {
        "broker_url": settings.broker_url,
        "broker_connection_retry_on_startup": True,
        # By default a worker ends after a hundred attempts; without Redis it still has Postgres.
        "broker_connection_max_retries": None,
        # Otherwise an error that Redis answers (memory full, a wrong type) ends the worker.
        "broker_channel_error_retry": True,
        **broker_settings(
            settings.broker_url,
            longest_task_s=longest_task_s,
            connections=settings.concurrency + 32,
        ),
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
        "worker_pool": "threads",
        "worker_concurrency": settings.concurrency,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        "worker_enable_remote_control": True,
    }


BROKER_PAUSE_S = 15.0
"""A broker that failed a wake gets none for so long: with a half-open connection each costs 5 s."""


class WorkerApp(Celery):
    """The app, and the service that its tasks call."""

    threads: Executor
    """Celery's pool; its tasks and our own turns share them."""
    _service: Service | None = None
    _no_wakes_until = 0.0
    """Of the monotonic clock."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("worker", set_as_current=True)
        longest_task_s = MAX_TASK_S + longest_lease_s(settings)
        self.conf.update(celery_settings(settings, longest_task_s=longest_task_s))
        self._settings = settings

    @property
    def service(self) -> Service:
        """The parts of this worker process; built when a worker starts, not at import."""
        if self._service is None:
            self._service = build_service(self._settings, broker=self)
        return self._service

    def taken_entries(self) -> int:
        """How many queue entries this process has taken."""
        return int(self.entry_gate.admitted)

    def is_saturated(self) -> bool:
        """Whether every thread has a message, so that the consumer may take no more."""
        return len(state.reserved_requests) >= self._settings.concurrency

    def waiting_entries(self) -> int:
        """How many entries wait on our queues, on a fresh connection. Raises `BrokerAwayError`."""
        try:
            counts = waiting_entries(self._settings.broker_url, QUEUES)
        except broker.ERRORS as error:
            raise BrokerAwayError(type(error).__name__) from error
        return sum(counts.values()) - counts.get(broker.UNACKED, 0)

    def submit(self, work: Callable[..., None], *args: object) -> Future[None]:
        """Run work on a thread of Celery's pool."""
        return self.threads.submit(work, *args)

    def wake(self, due: Sequence[Due]) -> None:
        """Put a wake for each user on the queue. Raises `CannotPublishError`."""
        if time.monotonic() < self._no_wakes_until:
            raise CannotPublishError("the broker failed a moment ago")
        try:
            with self.producer_pool.acquire(block=True, timeout=5) as producer:
                for one in due:
                    self.send_task(ANSWER, args=tuple(one), producer=producer)
        except broker.ERRORS as error:
            self._no_wakes_until = time.monotonic() + BROKER_PAUSE_S
            raise CannotPublishError(type(error).__name__) from error

    def wake_delivery(self, user_id: ChannelUserId) -> None:
        """Put a wake for a user's deliveries on the queue; where that fails the sweeper comes."""
        if time.monotonic() < self._no_wakes_until:
            return
        try:
            self.send_task(DELIVER, args=(user_id,))
        except broker.ERRORS as error:
            self._no_wakes_until = time.monotonic() + BROKER_PAUSE_S
            log.warning("delivery.wake_failed", user=user_id, error=type(error).__name__)

    def publish(self, task: str, queue: str, task_id: str, kwargs: dict[str, Any]) -> None:
        """Put a producer's task on his queue. Raises `NotPublishedError`."""
        here = traces.current_traceparent()
        try:
            self.send_task(
                task,
                kwargs=kwargs,
                # His queue: on RabbitMQ he says what it is like, and a missing one is an error.
                queue=Queue(queue, no_declare=True),
                mandatory=True,
                task_id=task_id,
                argsrepr="(hidden)",
                kwargsrepr="(hidden)",
                headers=None if here is None else {"traceparent": here},
            )
        except broker.ERRORS as error:
            raise NotPublishedError(type(error).__name__) from error


FLOWER_AUTH = "FLOWER_BASIC_AUTH"


def _tell_flower_its_secret() -> None:
    """Flower loads this app and then reads its environment, which knows no files."""
    try:
        if auth := secret_from_file(FLOWER_AUTH):
            del os.environ[f"{FLOWER_AUTH}_FILE"]
            os.environ[FLOWER_AUTH] = auth
    except ValueError as error:
        raise SettingsError(f"{FLOWER_AUTH}: {error}") from None


def _build() -> WorkerApp:
    try:
        settings = load_settings()
        _tell_flower_its_secret()
        built = WorkerApp(settings)
    except SettingsError as error:
        raise SystemExit(f"worker: {error}") from None

    def keep(entry: RejectedEntry) -> None:
        built.service.dead_letters.keep(
            reason=entry.reason, raw=entry.raw, detail=entry.detail, queue=entry.queue
        )

    install_gate(
        built,
        keep=keep,
        accepts={INBOUND: [RECEIVE], TURNS: [ANSWER], DELIVERIES: [DELIVER]},
    )
    tasks.register(built)
    built.steps["worker"].add(RunService)
    connect_signals(built, log_level=settings.log_level)
    return built


app = _build()
