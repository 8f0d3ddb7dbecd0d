# mypy: disallow-untyped-calls=False
"""kombu's Redis transport behind the entry gate; overrides internals of kombu 5.7.

The gate runs between taking an entry and handing it on. Entries are taken with their notes, and
acknowledged, by the script of `redis_take`: together, as far as they come together.
"""

import json
from functools import cached_property
from queue import Empty
from time import monotonic
from typing import Any, Final

from kombu.transport import redis as stock
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from worker.net.elsewhere import ELSEWHERE
from worker.observability.logs import log
from worker.queue.gate.gate import (
    DEAD_LETTER_TASK,
    Admitted,
    EntryGate,
    GatedMessage,
    broadcast,
    next_tag,
)
from worker.queue.gate.redis_reader import bounded
from worker.queue.gate.redis_take import MOST, GatedQoS, OpenTags, Take, Taken
from worker.queue.gate.redis_wait import GatedPoller, Waits

BINDINGS_S: Final = 60
"""How often kombu's bindings of queues that expire are renewed; they live for an hour."""
SETTLE_S: Final = 0.02
"""How long an acknowledgement waits for others. A worker that is killed in that time has done the
work, and another one sees that in Postgres."""
ENOUGH: Final = 32
"""Tasks and turns that compute: with more on its core, a process only does all of them slower."""
PATIENCE_S: Final = 0.5
"""The longest time for which it then takes nothing: its messages may wait for Postgres, or hang."""


class GatedChannel(stock.Channel):
    """Reads queues through the gate, if `broker_transport_options` has one."""

    QoS = GatedQoS
    Message = GatedMessage
    entry_gate: EntryGate | None = None
    open_tags = OpenTags()
    takes = False
    """Whether entries are taken by the script: this channel consumes queues of the gate alone."""
    _pooled: Any = None
    from_transport_options: tuple[str, ...] = (  # type: ignore[assignment] # kombu's has a length
        *stock.Channel.from_transport_options,
        "entry_gate",
        "open_tags",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        self.may_be_more = True
        """Whether a take may find something; no wait says so at first."""
        self.waits = Waits(self)
        self._settles = self._looks_again = False
        self._taken_at = 0.0
        super().__init__(*args, **kwargs)

    def _update_queue_cycle(self) -> None:
        super()._update_queue_cycle()
        gate = self.entry_gate
        self.takes = gate is not None and gate.queues.issuperset(self.active_queues)

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - kombu's
        """Return how to connect. Raises a connection error if the channel is closed."""
        # kombu's own raises AttributeError there, which ends the worker. That happened after every
        # loss of Redis in mid-task, when the task was acknowledged on the channel that had brought
        # it. A connection error is logged, and the message comes again.
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the connection that brought the message is gone")
        params: dict[str, Any] = super()._connparams(asynchronous=asynchronous)
        return params | {"connection_class": bounded(params["connection_class"])}

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - kombu's
        """Keep one client for each pool; kombu's own makes one for each command, at some cost."""
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._pooled is None or self._pooled.connection_pool is not self.pool:
            self._pooled = super()._create_client()
        return self._pooled

    def take_what_is_there(self) -> None:
        """Take and deliver entries until the queues are empty, or this process has enough."""
        while self.may_be_more and self.qos.can_consume():
            # While acknowledgements gather, so do the places that they leave.
            if (self._settles and self._room() < MOST) or self._has_enough():
                break
            self._take(self._room())

    def acknowledge(self, tag: str) -> None:
        """Have Redis forget a note, soon; without a connection, over the next one.

        Any thread may call it: waking the loop for each would cost more than the rest.
        """
        done = self.open_tags.done
        done.append(tag)
        loop = self.connection and self.connection.loop
        if loop is None:
            self._settle()
        elif len(done) % MOST == 0:
            loop.call_soon(self._settle)
        elif not self._settles:
            self._settles = True
            # A timer may be set only by the loop's own thread.
            loop.call_soon(loop.call_later, SETTLE_S, self._settle)

    def _settle(self) -> None:
        self._settles = False
        if not self.closed:
            more = self.takes and self.may_be_more and self.qos.can_consume()
            more = more and not self._has_enough()
            self._take(self._room() if more else 0)

    def _has_enough(self) -> bool:
        """Return whether more would only slow down what this process has; then it looks again."""
        gate, loop = self.entry_gate, self.connection.loop
        turns = None if gate is None else gate.turns
        if turns is None or loop is None or monotonic() - self._taken_at > PATIENCE_S:
            return False
        if max(self.qos.in_flight(), turns()) - ELSEWHERE.threads < ENOUGH:
            return False
        if not self._looks_again:
            self._looks_again = True
            loop.call_later(SETTLE_S, self._look_again)
        return True

    def _look_again(self) -> None:
        # The loop asks for more whenever something wakes it.
        self._looks_again = False

    def _room(self) -> int:
        most = self.qos.can_consume_max_estimate()
        return MOST if most is None else min(most, MOST)

    def _take(self, number: int) -> None:
        """Acknowledge what is done, and take and deliver entries."""
        tags = self.open_tags
        while tags.in_doubt:
            # The oldest last: it is the next to be taken.
            self.qos.restore_by_tag(tags.in_doubt[-1])
            tags.in_doubt.pop()
        if not (number or tags.done):
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        lists = [(one, self.lists_of(one)) for one in queues]
        new = [next_tag() for _ in range(number)]
        taken, more = self._script(lists, new, self.waits.moved)
        if number:
            self._taken_at = monotonic()
            self.may_be_more = more
            self.waits.moved.clear()
        for one in taken:
            message = self._admit(one)
            # From here on Celery has it.
            tags.in_doubt.popleft()
            self._queue_cycle.rotate(one.queue)
            self.connection._deliver(message, one.queue)  # noqa: SLF001

    @cached_property
    def _script(self) -> Take:
        notes = [self.global_keyprefix + key for key in (self.unacked_key, self.unacked_index_key)]
        return Take(self.pool, notes=notes, tags=self.open_tags)

    def lists_of(self, queue: str) -> list[str]:
        """Return the keys of a queue's lists, in order of priority."""
        return [self.global_keyprefix + self._q_for_pri(queue, one) for one in self.priority_steps]

    def list_of(self, entry: dict[str, Any], queue: str) -> str:
        """Return the name of the list that an entry's priority has."""
        name: str = self._q_for_pri(queue, self._get_message_priority(entry))
        return name

    def _admit(self, taken: Taken) -> Admitted:
        assert self.entry_gate is not None  # noqa: S101 - nobody else takes
        message = self.entry_gate.admit(
            taken.raw, queue=taken.queue, priority=self.priority_steps[taken.step], tag=taken.tag
        )
        if message["headers"]["task"] == DEAD_LETTER_TASK:
            # Its note has the entry as it came, of any size; so the next worker gets the call.
            note = json.dumps([message, "", taken.queue])
            with self.conn_or_acquire() as client:
                client.hset(self.unacked_key, taken.tag, note)
        return message

    def close(self) -> None:
        """Acknowledge what is done, then close."""
        if not self.closed and self.takes and self.open_tags.done:
            try:
                self._take(0)
            except (*self.connection_errors, ResponseError) as error:
                log.warning("queue.not_acknowledged", error=type(error).__name__)
        super().close()

    def _brpop_read(self, **options: Any) -> bool:  # noqa: ANN401
        """Read what is no queue of ours as kombu does, but through the gate.

        Answers to our own remote control come this way.
        """
        if self.entry_gate is None:
            return bool(super()._brpop_read(**options))
        connection = self.client.connection
        try:
            popped = self.client.parse_response(connection, "BRPOP", **options)
        except self.connection_errors:
            connection.disconnect()
            raise
        finally:
            self._in_poll = False
        if not popped:
            raise Empty
        queue, _, _ = bytes_to_str(popped[0]).partition(self.sep)
        self._queue_cycle.rotate(queue)
        message = broadcast(popped[1], queue=queue, delivery_info={"routing_key": queue})
        if message is not None:
            self.connection._deliver(message, queue)  # noqa: SLF001
        return True

    def _receive_one(self, client: Any) -> Any:  # noqa: ANN401
        """Read one broadcast as kombu does, but through the gate.

        kombu unpacks a compressed one to any size, logs an unreadable one with its content, and
        ends the worker on some.
        """
        if self.entry_gate is None:
            return super()._receive_one(client)
        try:
            response = client.parse_response()
        except self.connection_errors:
            self._in_listen = None  # type: ignore[assignment] # kombu sets both
            raise
        if not isinstance(response, list | tuple):
            return None
        told = self._handle_message(client, response)
        if not bytes_to_str(told["type"]).endswith("message") or not told["data"]:
            return None
        # Such as /0.worker.pidbox, or /0.workerev/worker.heartbeat.
        channel = bytes_to_str(told["channel"]).partition(".")[2]
        exchange, _, key = channel.partition("/")
        queue = self._fanout_to_queue.get(exchange)
        if queue is None:
            return None
        where = {"exchange": exchange, "routing_key": key}
        message = broadcast(told["data"], queue=queue, delivery_info=where)
        if message is not None:
            self.connection._deliver(message, queue)  # noqa: SLF001
        return message is not None


class GatedTransport(stock.Transport):
    """Selected for `redis://` and `rediss://` by `install_gate`."""

    Channel = GatedChannel
    loop: Any = None
    """Celery's event loop; None = a program without one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.cycle = GatedPoller()  # type: ignore[assignment] # kombu's type is that of others

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:  # noqa: ANN401
        """Keep the loop, and wake it less often."""
        self.loop = loop
        super().register_with_event_loop(connection, loop)
        cycle: Any = self.cycle
        # kombu asks every second whether a minute, or twenty, have passed.
        cycle._binding_expiry_tref.cancel()  # noqa: SLF001
        cycle._binding_expiry_tref = loop.call_repeatedly(  # noqa: SLF001
            BINDINGS_S, cycle.maybe_refresh_binding_expiry
        )
