# mypy: disallow-untyped-calls=False
"""Installs the entry gate: Celery's worker then survives and keeps everything on its queues.

For every queue named in `accepts`:

- An entry that is not a call of an accepted task with that task's arguments becomes a dead letter
  with its exact bytes, acknowledged after the row is committed. Until then it waits in the broker.
- Neither its content nor the arguments of valid calls are logged, sent as events or shown by
  `inspect`.
- Of a producer's headers only those that `headers` names are kept: `eta` and `expires` as times of
  the message, canvas not at all. One id sent twice runs twice.

Process-wide: `install_gate` makes kombu use our transports for `redis://`, `amqp://` and both with
TLS. Without a gate in its options, each behaves as kombu's own. Written against Celery 5.7.
"""

import json
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Final

import kombu.transport
from celery.events.dispatcher import EventDispatcher
from celery.exceptions import ImproperlyConfigured, Reject
from celery.worker.consumer import Consumer
from redis.exceptions import NoPermissionError

from worker.domain.reasons import DeadLetterReason as Reason
from worker.observability.logs import log
from worker.queue.gate.amqp_transport import GatedAmqpsTransport, GatedAmqpTransport
from worker.queue.gate.base_task import DeadLetteringTask, OnDefect, keep_dead_letter
from worker.queue.gate.entry import RejectedEntry
from worker.queue.gate.gate import DEAD_LETTER_TASK, Admitted, EntryGate, GatedMessage
from worker.queue.gate.redis_take import OpenTags
from worker.queue.gate.redis_transport import GatedTransport
from worker.queue.redis_rights import right_named_by
from worker.queue.wake_on_signal import WAKE_ON_SIGNAL

_TRANSPORTS: Final = {
    "redis": GatedTransport,
    "rediss": GatedTransport,
    "amqp": GatedAmqpTransport,
    "amqps": GatedAmqpsTransport,
}

HEARTBEAT_S = 5
"""A RabbitMQ that misses two of them counts as dead."""
EVENT_HEARTBEAT_S = 30.0
"""How often a worker tells Flower that it is there; Celery's own 2 s cost an idle one the most. A
heartbeat names the interval, and Flower waits for two of them."""
EVENTS_S = 0.2
"""How long a task's event waits for others: Celery publishes at once, three times a task."""
_MOST_EVENTS = 250
"""In one message: Flower reads at most a megabyte, and an event has less than a kilobyte."""


class Dispatcher(EventDispatcher):
    """Sends events, each once.

    Celery sends its heartbeats until the broker is back, in the thread that SIGTERM has to reach: a
    worker whose broker had gone could not be stopped. What fails is kept for the next connection.
    """

    def send(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery publishes no types
        """Send or buffer an event."""
        super().send(*args, **(kwargs | {"retry": False}))


class GuardedConsumer(Consumer):
    """Celery's consumer, with its four ways of dropping a message closed.

    The gate admits nothing that Celery would refuse, so none of the four should ever run. If one
    does, the gate has a gap: the message still becomes a dead letter, and none of it is logged
    (Celery's own handlers print body and headers).
    """

    class Blueprint(Consumer.Blueprint):
        """Celery's steps without the one for delayed delivery."""

        # That step declares 28 queues on RabbitMQ, for an `eta`, which becomes a row here.
        default_steps: ClassVar = [
            step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in step
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        # Both read what any worker publishes: revoked ids, and tasks to run after an election.
        kwargs |= {"without_mingle": True, "without_gossip": True}
        kwargs["heartbeat_interval"] = EVENT_HEARTBEAT_S
        super().__init__(*args, **kwargs)
        # Heartbeats for this connection alone: nothing would send them on those that only publish.
        self.amqheartbeat = HEARTBEAT_S
        self._gate: EntryGate = self.app.entry_gate
        self._events_wait = False
        if unguarded := set(self.app.amqp.queues.consume_from) - self._gate.queues:
            names = ", ".join(sorted(unguarded))
            raise ImproperlyConfigured(f"no accepted tasks for queue {names}: see install_gate")

    def call_soon_ack(self, p: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Acknowledge in the loop, as Celery does; on Redis here, where they are gathered."""
        is_ack = getattr(p, "__func__", None) is GatedMessage.ack_log_error
        if is_ack and getattr(p.__self__.channel, "takes", False):
            return p(*args, **kwargs)
        return super().call_soon_ack(p, *args, **kwargs)

    def on_send_event_buffered(self) -> None:
        """Send the events of some time together; any thread calls this for each event."""
        if not self._events_wait:
            self._events_wait = True
            # A timer may be set only by the loop's own thread.
            self.hub.call_soon(self.hub.call_later, EVENTS_S, self._send_events)

    def _send_events(self) -> None:
        self._events_wait = False
        if self.event_dispatcher:
            self.event_dispatcher.flush()

    def register_with_event_loop(self, hub: Any) -> None:  # noqa: ANN401
        """Start with a new connection."""
        if self.event_dispatcher:
            self.event_dispatcher.buffer_limit = _MOST_EVENTS
        self._events_wait = False
        super().register_with_event_loop(hub)
        WAKE_ON_SIGNAL.register(hub)

    def shutdown(self) -> None:
        """Send the events of the last tasks, then close the connections."""
        self._send_events()
        super().shutdown()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Reconnect as Celery does; name the right that the Redis user lacks."""
        # The dispatcher keeps for its successor what it failed to send, but not what it never
        # tried to.
        self._send_events()
        # Celery's own line has it as one error among others, in Redis's words.
        if isinstance(exc, NoPermissionError):
            log.error("broker.right_missing", right=right_named_by(exc), fix="ACL SETUSER")
        super().on_connection_error_after_connected(exc)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:  # noqa: ANN401
        """Make the handler, once a connection, and keep it for `_set_aside`."""
        handle: Callable[[Any], None] = super().create_task_handler(*args, **kwargs)
        self._handle = handle
        return handle

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ANN401, ARG002
        """Keep a message that is neither protocol 1 nor 2; Celery drops it."""
        self._set_aside(message, "on_unknown_message")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002
        """Keep a message whose task is unknown here; Celery drops it."""
        self._set_aside(message, "on_unknown_task")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002
        """Keep a message after InvalidTaskError or ContentDisallowed; Celery drops it."""
        self._set_aside(message, "on_invalid_task")

    def on_decode_error(self, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002
        """Keep an unreadable message; Celery drops it. A broadcast has been dropped by the gate."""
        if type(getattr(message, "_raw", None)) is Admitted:
            self._set_aside(message, "on_decode_error")

    def _set_aside(self, message: Any, detail: str) -> None:  # noqa: ANN401
        """Deliver a call of `dead_letters.keep` in place of the message."""
        raw = message._raw  # noqa: SLF001
        queue = raw["properties"]["delivery_info"]["routing_key"]
        if raw["headers"]["task"] == DEAD_LETTER_TASK:
            # Even that was refused. Left unacked, it comes back after the visibility timeout.
            log.error("dead_letter.refused", queue=queue, handler=detail)
            return
        bare = json.dumps(raw).encode()
        rejected = RejectedEntry.of(bare, reason=Reason.NOT_UNDERSTOOD, detail=detail, queue=queue)
        # The same tag: acknowledging the substitute acknowledges the message.
        substitute = self._gate.set_aside(rejected, tag=message.delivery_tag)
        self._handle(GatedMessage(substitute, channel=message.channel))


def install_gate(
    app: Any,  # noqa: ANN401 - Celery publishes no types
    *,
    keep: Callable[[RejectedEntry], None],
    accepts: Mapping[str, Collection[str]],
) -> None:
    """Equip the app with gate, consumer and base task: after its settings, before its first task.

    `accepts`: for each queue that workers consume, the names of the tasks that may come in on it.
    `keep`: commits a dead letter, on a thread of the pool. If it raises, the entry comes again.
    """
    # Celery caches `app.Task` with the first task class, and would ignore `task_cls` from then on.
    if "Task" in vars(app):
        raise RuntimeError("install_gate comes before the first task")
    gate = EntryGate(tasks=lambda: app.tasks, accepts=accepts)
    app.entry_gate = gate
    app.keep_dead_letter = keep
    app.task_cls = DeadLetteringTask
    app.conf.worker_consumer = _path_of(GuardedConsumer)
    app.events.dispatcher_cls = _path_of(Dispatcher)
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        "entry_gate": gate,
        "open_tags": OpenTags(),
    }
    # By alias, not by the setting `broker_transport`: kombu forgets that when it moves on to the
    # next of several broker URLs, and would then speak to a `rediss://` without TLS.
    for scheme, transport in _TRANSPORTS.items():
        kombu.transport.TRANSPORT_ALIASES[scheme] = _path_of(transport)
        kombu.transport._transport_cache.pop(scheme, None)  # noqa: SLF001 - may be cached already
    app.task(name=DEAD_LETTER_TASK, bind=True, acks_late=True, on_defect=OnDefect.REQUEUE)(
        keep_dead_letter
    )
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
