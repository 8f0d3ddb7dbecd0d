# mypy: disallow-untyped-calls=False
"""A worker process's way to its broker and to Celery's threads."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from amqp.exceptions import AMQPError, MessageNacked
from celery.worker import state
from kombu.entity import Queue
from kombu.exceptions import KombuError
from redis import RedisError

from worker.domain.errors import BrokerAwayError
from worker.domain.fairness import Share
from worker.domain.ids import ChannelUserId
from worker.observability import traces
from worker.observability.logs import log
from worker.queue.broker import ANSWER, DELIVER, QUEUES, UNACKED
from worker.queue.gate.gate import HIDDEN
from worker.queue.waiting import waiting_entries

_ERRORS = (KombuError, AMQPError, MessageNacked, RedisError, OSError)
"""Errors of a failing broker. Log only their type: the texts may quote what was sent."""
_PAUSE_S = 15.0
"""After a failure no wake is published for this long: over a half-open connection each costs 5 s.

Nothing is lost, because the sweeper finds what is due.
"""


class BrokerClient:
    """Publishes wakes and producers' tasks; all threads of the process share it.

    `app` is the Celery app, with the entry gate installed.
    """

    def __init__(self, app: Any, *, url: str) -> None:  # noqa: ANN401 - no types
        self._app = app
        self._url = url
        self._no_wakes_until = 0.0
        """By the monotonic clock."""

    def taken_entries(self) -> int:
        """Return how many queue entries this process has taken since it started."""
        return int(self._app.entry_gate.admitted)

    def empty_at(self) -> float:
        """Return when Redis last said, unasked, that all queues are empty; by `monotonic`."""
        return float(self._app.entry_gate.empty_at)

    def is_saturated(self) -> bool:
        """Return whether every thread has a message, so that the consumer may take no more."""
        # The pool's own size: Celery's option -c takes precedence over CONCURRENCY.
        return len(state.reserved_requests) >= int(self._app.pool_threads)

    def waiting_entries(self) -> int:
        """Count the entries that wait on our queues, over a fresh connection.

        Raises `BrokerAwayError`.
        """
        counts = waiting_entries(self._url, QUEUES)
        return sum(counts.values()) - counts.get(UNACKED, 0)

    def submit(self, work: Callable[..., None], *args: object) -> Future[None]:
        """Run work on a thread of Celery's pool; a worker that shuts down waits for it."""
        future: Future[None] = self._app.threads.submit(work, *args)
        return future

    def wake(self, due: Iterable[tuple[ChannelUserId, Share]]) -> None:
        """Queue a wake for each user, with the name of the agent. Raises `BrokerAwayError`."""
        if time.monotonic() < self._no_wakes_until:
            raise BrokerAwayError("the broker failed a moment ago")
        try:
            with self._app.producer_pool.acquire(block=True, timeout=5) as producer:
                for user_id, share in due:
                    self._app.send_task(ANSWER, args=(user_id, share.agent), producer=producer)
        except _ERRORS as error:
            self._no_wakes_until = time.monotonic() + _PAUSE_S
            raise BrokerAwayError(type(error).__name__) from error

    def wake_delivery(self, user_id: ChannelUserId) -> None:
        """Queue a wake for a user's deliveries. Never raises: the sweeper replaces a lost one."""
        if time.monotonic() < self._no_wakes_until:
            return
        try:
            self._app.send_task(DELIVER, args=(user_id,))
        except _ERRORS as error:
            self._no_wakes_until = time.monotonic() + _PAUSE_S
            log.warning("delivery.wake_failed", user=user_id, error=type(error).__name__)

    def publish(self, task: str, queue: str, task_id: str, kwargs: dict[str, Any]) -> None:
        """Put a producer's task on the producer's queue.

        Raises `BrokerAwayError` if the broker did not confirm it; it may have the task anyway.
        """
        here = traces.current_traceparent()
        try:
            self._app.send_task(
                task,
                kwargs=kwargs,
                # The producer declares this queue. On RabbitMQ, declaring it with other arguments
                # is an error, and `mandatory` makes a missing one an error, too.
                queue=Queue(queue, no_declare=True),
                mandatory=True,
                task_id=task_id,
                # Celery would show the reply's text in events and `inspect`.
                argsrepr=HIDDEN,
                kwargsrepr=HIDDEN,
                headers=None if here is None else {"traceparent": here},
            )
        except _ERRORS as error:
            raise BrokerAwayError(type(error).__name__) from error
