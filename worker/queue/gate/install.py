"""What lets Celery's own worker survive and keep everything that arrives on its queues.

For every queue named in `accepts`:

- An entry that is not a call of an accepted task with that task's arguments becomes a dead letter
  with its exact bytes, acknowledged after the row is committed. Until then it waits in the broker.
- Neither its content nor the arguments of good calls are logged, sent as events or shown by
  `inspect`.
- A producer's `expires`, `eta`, canvas and other headers do nothing; one id sent twice runs twice.

Process-wide: `install` makes kombu use our transports for `redis://`, `amqp://` and both with TLS.
Without a gate in its options each behaves as kombu's own.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import kombu.transport
from celery.exceptions import Reject

from worker.queue.gate.amqp_transport import GatedAmqpsTransport, GatedAmqpTransport
from worker.queue.gate.base_task import Intake, KeepingTask, OnDefect, Quarantine, keep
from worker.queue.gate.consumer import KeepingConsumer
from worker.queue.gate.gate import KEEP_TASK, MAX_BODY_BYTES, Gate
from worker.queue.gate.redis_transport import GatedTransport, Homeless

__all__ = ["KEEP_TASK", "KeepingTask", "OnDefect", "Quarantine", "install"]

_TRANSPORTS: Final = {
    "redis": GatedTransport,
    "rediss": GatedTransport,
    "amqp": GatedAmqpTransport,
    "amqps": GatedAmqpsTransport,
}


def install(
    app: Any,  # noqa: ANN401 - Celery publishes no types
    *,
    quarantine: Callable[[], Quarantine],
    accepts: Mapping[str, Collection[str]],
    max_body_bytes: int = MAX_BODY_BYTES,
) -> None:
    """Give the app gate, consumer and base task: after its settings, before its first task.

    `accepts`: for each queue that workers consume, the names of the tasks that may come in on it.
    `quarantine`: called on a thread of the pool when a letter is to be kept.
    """
    if "Task" in vars(app):  # cached by Celery when the first task class is made
        raise RuntimeError("intake.install comes before the first task")
    gate = Gate(tasks=lambda: app.tasks, accepts=accepts, max_body_bytes=max_body_bytes)
    app.intake = Intake(gate, quarantine)
    app.task_cls = KeepingTask
    app.conf.worker_consumer = _path_of(KeepingConsumer)
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        "intake_gate": gate,
        "intake_homeless": Homeless(),
    }
    _select_transport()
    app.task(name=KEEP_TASK, bind=True, acks_late=True, on_defect=OnDefect.REQUEUE)(keep)
    _quieten()


def _select_transport() -> None:
    # By alias, not by the setting `broker_transport`: that is forgotten when kombu goes on to the
    # next of several broker URLs, and a `rediss://` without options would be spoken to without TLS.
    for scheme, transport in _TRANSPORTS.items():
        kombu.transport.TRANSPORT_ALIASES[scheme] = _path_of(transport)
        kombu.transport._transport_cache.pop(scheme, None)  # noqa: SLF001 - may be resolved already


def _quieten() -> None:
    # At DEBUG Celery's pool prints the arguments of everything it runs.
    logging.getLogger("celery.pool").setLevel(logging.INFO)
    # A message that goes back is no error; with Postgres away each thread has one a second.
    logging.getLogger("celery.app.trace").addFilter(_one_line_for_reject)


def _one_line_for_reject(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], Reject):
        record.exc_info = None
    return True


def _path_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
