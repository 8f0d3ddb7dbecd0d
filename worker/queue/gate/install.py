"""Installs the entry gate: Celery's worker then survives and keeps everything on its queues.

For every queue named in `accepts`:

- An entry that is not a call of an accepted task with that task's arguments becomes a dead letter
  with its exact bytes, acknowledged after the row is committed. Until then it waits in the broker.
- Neither its content nor the arguments of valid calls are logged, sent as events or shown by
  `inspect`.
- A producer's `expires`, `eta`, canvas and other headers are ignored; one id sent twice runs twice.

Process-wide: `install_gate` makes kombu use our transports for `redis://`, `amqp://` and both with
TLS. Without a gate in its options, each behaves as kombu's own.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import kombu.transport
from celery.exceptions import Reject

from worker.envelope.wire import MAX_BODY_BYTES
from worker.queue.gate.amqp_transport import GatedAmqpsTransport, GatedAmqpTransport
from worker.queue.gate.base_task import DeadLetteringTask, OnDefect, keep_dead_letter
from worker.queue.gate.consumer import GuardedConsumer
from worker.queue.gate.entry import RejectedEntry
from worker.queue.gate.gate import DEAD_LETTER_TASK, EntryGate
from worker.queue.gate.redis_transport import GatedTransport, UnackedEntries

_TRANSPORTS: Final = {
    "redis": GatedTransport,
    "rediss": GatedTransport,
    "amqp": GatedAmqpTransport,
    "amqps": GatedAmqpsTransport,
}


def install_gate(
    app: Any,  # noqa: ANN401 - Celery publishes no types
    *,
    keep: Callable[[RejectedEntry], None],
    accepts: Mapping[str, Collection[str]],
    max_body_bytes: int = MAX_BODY_BYTES,
) -> None:
    """Equip the app with gate, consumer and base task: after its settings, before its first task.

    `accepts`: for each queue that workers consume, the names of the tasks that may come in on it.
    `keep`: commits a dead letter, on a thread of the pool. If it raises, the entry comes again.
    """
    # Celery caches `app.Task` with the first task class, and would ignore `task_cls` from then on.
    if "Task" in vars(app):
        raise RuntimeError("install_gate comes before the first task")
    gate = EntryGate(tasks=lambda: app.tasks, accepts=accepts, max_body_bytes=max_body_bytes)
    app.entry_gate = gate
    app.keep_dead_letter = keep
    app.task_cls = DeadLetteringTask
    app.conf.worker_consumer = _path_of(GuardedConsumer)
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        "entry_gate": gate,
        "unacked_entries": UnackedEntries(),
    }
    _select_transport()
    app.task(name=DEAD_LETTER_TASK, bind=True, acks_late=True, on_defect=OnDefect.REQUEUE)(
        keep_dead_letter
    )
    _quieten()


def _select_transport() -> None:
    # By alias, not by the setting `broker_transport`: kombu forgets that when it moves on to the
    # next of several broker URLs, and would then speak to a `rediss://` without TLS.
    for scheme, transport in _TRANSPORTS.items():
        kombu.transport.TRANSPORT_ALIASES[scheme] = _path_of(transport)
        kombu.transport._transport_cache.pop(scheme, None)  # noqa: SLF001 - may be cached already


def _quieten() -> None:
    # At DEBUG Celery's pool prints the arguments of everything it runs.
    logging.getLogger("celery.pool").setLevel(logging.INFO)
    # Requeueing is not an error, and with Postgres away each thread does it once a second.
    logging.getLogger("celery.app.trace").addFilter(_one_line_for_reject)


def _one_line_for_reject(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], Reject):
        record.exc_info = None
    return True


def _path_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
