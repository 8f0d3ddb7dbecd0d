# mypy: disallow-untyped-calls=False
"""kombu's Redis transport behind the entry gate; overrides internals of kombu 5.7.

The gate runs between popping an entry and handing it on. An entry that was popped while Redis
refused to note it as unacked (connection lost, memory full) goes back on its list with the next
connection; kombu would forget it.
"""

import json
from collections import deque
from queue import Empty
from typing import Any

from kombu.transport import redis as stock
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from worker.domain.reasons import DeadLetterReason as Reason
from worker.observability.logs import log
from worker.queue.gate.entry import Oversized, RejectedEntry
from worker.queue.gate.gate import Admitted, EntryGate, GatedMessage, broadcast
from worker.queue.gate.redis_reader import bounded


class UnackedEntries(deque[tuple[str, str | bytes]]):
    """Entries that were popped and neither noted as unacked nor put back: (Redis list, entry).

    It is one for the process and outlives connections.
    """

    def __repr__(self) -> str:
        # `celery inspect conf` prints the transport's options, this among them, while Redis is away
        # and entries are held.
        return f"UnackedEntries({len(self)})"

    __json__ = __repr__


class GatedQoS(stock.QoS):
    """The notes of unacked messages."""

    # redis-py quotes the command, content included, in the errors of its pipelines, and Celery logs
    # them. So both methods raise a new error with only the type, and do so outside of `except`:
    # otherwise the original would be logged as its context.

    def append(self, message: Any, delivery_tag: str) -> None:  # noqa: ANN401
        """Note a message as unacked; kombu's own forgets the message if that fails."""
        try:
            super().append(message, delivery_tag)
        except (*self.channel.connection_errors, ResponseError) as error:
            failure = type(error).__name__
        else:
            return
        self.channel.rescue(message)
        raise RedisConnectionError(f"could not note a message as unacked ({failure})")

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:  # noqa: ANN401, FBT001, FBT002 - kombu's
        """Put a message back on its list; kombu's own loses or trips over one it can't read."""
        if self.channel.entry_gate is None:
            super().restore_by_tag(tag, client=client, leftmost=leftmost)
            return

        def restore_transaction(pipe: Any) -> None:  # noqa: ANN401
            note = pipe.hget(self.unacked_key, tag)
            pipe.multi()
            if not note or self.channel.put_back(pipe, note, leftmost=leftmost):
                self._remove_from_indices(tag, pipe)

        try:
            with self.channel.conn_or_acquire(client) as connected:
                connected.transaction(restore_transaction, self.unacked_key)
        except (*self.channel.connection_errors, ResponseError) as error:
            failure = type(error).__name__
        else:
            return
        raise RedisConnectionError(f"could not restore an unacked message ({failure})")


class GatedChannel(stock.Channel):
    """Reads queues through the gate, if `broker_transport_options` has one."""

    QoS = GatedQoS
    Message = GatedMessage
    entry_gate: EntryGate | None = None
    unacked_entries: UnackedEntries | None = None
    _pooled: Any = None
    from_transport_options: tuple[str, ...] = (  # type: ignore[assignment] # kombu's has a length
        *stock.Channel.from_transport_options,
        "entry_gate",
        "unacked_entries",
    )

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

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Put the unacked entries back on their lists, then send BRPOP."""
        while self.unacked_entries:
            key, entry = self.unacked_entries[0]
            with self.conn_or_acquire() as client:
                # RPUSH: BRPOP reads this end next, so the entry keeps its place in the order.
                client.rpush(key, entry)
            self.unacked_entries.popleft()
        super()._brpop_start(timeout)

    def _brpop_read(self, **options: Any) -> bool:  # noqa: ANN401
        """Read BRPOP's answer as kombu does, but through the gate.

        kombu's own parses the entry here, and an exception would end the loop of all queues.
        """
        try:
            try:
                popped = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not popped:
                raise Empty
            key = bytes_to_str(popped[0])
            if self._closing:
                self._return(key, popped[1])
                return True
            queue, _, priority = key.partition(self.sep)
            self._queue_cycle.rotate(queue)
            message = self._read(popped[1], queue, int(priority or 0))
            if message is not None:
                self.connection._deliver(message, queue)  # noqa: SLF001
            return True
        finally:
            self._in_poll = False
            self._flush_brpop_reauth()

    def _return(self, key: str, raw: bytes) -> None:
        """Put back an entry popped for a closing channel, which may have no consumer left."""
        entry: bytes | str = raw
        if isinstance(raw, Oversized) and self.entry_gate is not None:
            queue, _, priority = key.partition(self.sep)
            entry = json.dumps(self.entry_gate.admit(raw, queue=queue, priority=int(priority or 0)))
        try:
            with self.conn_or_acquire() as client:
                client.rpush(key, entry)
        except (*self.connection_errors, ResponseError):
            self._hold(key, entry)

    def _hold(self, key: str, entry: str | bytes) -> None:
        if self.unacked_entries is not None:
            self.unacked_entries.append((key, entry))
            log.warning("entry.held_back", count=len(self.unacked_entries))

    def _read(self, raw: bytes, queue: str, priority: int) -> Any:  # noqa: ANN401
        if self.entry_gate is None:
            return loads(bytes_to_str(raw))
        if queue in self.entry_gate.queues:
            return self.entry_gate.admit(raw, queue=queue, priority=priority)
        # Not a queue of ours: answers to our own remote control come this way.
        return broadcast(raw, queue=queue, delivery_info={"routing_key": queue})

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

    def rescue(self, message: Any) -> None:  # noqa: ANN401
        """Remember a popped message until Redis takes it back."""
        raw = message._raw  # noqa: SLF001
        if isinstance(raw, Admitted):
            key = self._list_of(raw, raw["properties"]["delivery_info"]["routing_key"])
            self._hold(key, json.dumps(raw))

    def put_back(self, pipe: Any, note: bytes, *, leftmost: bool) -> bool:  # noqa: ANN401
        """Queue the message of an unacked note again, in the pipeline; False = it is not ours."""
        # kombu asks the exchange for the list. An undeclared exchange has none, and the message
        # would be lost: so entries of our queues go back by the queue's name alone.
        assert self.entry_gate is not None  # noqa: S101 - `restore_by_tag` has looked
        guarded = self.entry_gate.queues
        try:
            # The first bytes of a large note may be a message, but the whole is none of ours.
            entry, _, queue = json.loads(b"" if isinstance(note, Oversized) else note)
            entry["headers"]["redelivered"] = True
            entry["properties"]["delivery_info"]["redelivered"] = True
        except (ValueError, TypeError, KeyError, RecursionError):
            queue = min(guarded)
            entry = self.entry_gate.set_aside(
                RejectedEntry.of(note, reason=Reason.UNACKED_UNREADABLE, detail="", queue=queue)
            )
        # Another application in this database has the same hash, and tasks that may take longer.
        if queue in guarded:
            (pipe.lpush if leftmost else pipe.rpush)(self._list_of(entry, queue), json.dumps(entry))
        return queue in guarded

    def _list_of(self, entry: dict[str, Any], queue: str) -> str:
        key: str = self._q_for_pri(queue, self._get_message_priority(entry))
        return key


class GatedTransport(stock.Transport):
    """Selected for `redis://` and `rediss://` by `install_gate`."""

    Channel = GatedChannel
