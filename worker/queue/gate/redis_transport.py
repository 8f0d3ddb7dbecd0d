# mypy: disallow-untyped-calls=False
"""kombu's Redis transport with the gate in it; overrides insides of kombu 5.7.

Where kombu pops an entry and hands it on, the gate stands between. And an entry that was popped
while Redis refused to note it as unacked (connection lost, memory full) goes back on its list with
the next connection; kombu forgets it.
"""

import json
import logging
from collections import deque
from queue import Empty
from typing import Any

from kombu.transport import redis as stock
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from worker.domain.reasons import DeadLetterReason as Reason
from worker.queue.gate.gate import Admitted, EntryGate
from worker.queue.gate.message import GatedMessage
from worker.queue.gate.rejected_entry import RejectedEntry

logger = logging.getLogger(__name__)


class UnackedEntries(deque[tuple[str, str | bytes]]):
    """(Redis list, entry): popped, and neither noted nor put back. Outlives connections."""

    def __json__(self) -> str:
        """Stand like that in what `inspect stats` answers: a number, no entry."""
        return f"UnackedEntries({len(self)})"


class GatedQoS(stock.QoS):
    """The notes of unacked messages.

    redis-py writes the command, content included, into the errors of its pipelines, and Celery
    logs them: here they are replaced by one that has only their type.
    """

    def append(self, message: Any, delivery_tag: str) -> None:  # noqa: ANN401
        """Note it as unacked. kombu's own forgets the message when that fails."""
        try:
            super().append(message, delivery_tag)
        except (*self.channel.connection_errors, ResponseError) as error:
            failure = type(error).__name__
        else:
            return
        self.channel.rescue(message)
        raise RedisConnectionError(f"could not note a message as unacked ({failure})")

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:  # noqa: ANN401, FBT001, FBT002 - kombu's
        """Put a message back on its list. kombu's own loses or trips over one it can't read."""
        if self.channel.entry_gate is None:
            super().restore_by_tag(tag, client=client, leftmost=leftmost)
            return

        def restore_transaction(pipe: Any) -> None:  # noqa: ANN401
            note = pipe.hget(self.unacked_key, tag)
            pipe.multi()
            self._remove_from_indices(tag, pipe)
            if note:
                self.channel.put_back(pipe, note, leftmost=leftmost)

        try:
            with self.channel.conn_or_acquire(client) as connected:
                connected.transaction(restore_transaction, self.unacked_key)
        except (*self.channel.connection_errors, ResponseError) as error:
            failure = type(error).__name__
        else:
            return
        raise RedisConnectionError(f"could not restore an unacked message ({failure})")


class GatedChannel(stock.Channel):
    """Reads queues through the gate, where `broker_transport_options` has one."""

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
        """Tell how to connect. kombu's own raises what ends the worker where the channel is closed.

        So it went after every loss of Redis in mid-task: when the task was to be acknowledged, on
        the channel that had brought it. A connection error is logged, and the message comes again.
        """
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the connection that brought the message is gone")
        params: dict[str, Any] = super()._connparams(asynchronous=asynchronous)
        return params

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - kombu's
        """Keep one client for a pool. kombu's own makes one for each command, which costs more."""
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._pooled is None or self._pooled.connection_pool is not self.pool:
            self._pooled = super()._create_client()
        return self._pooled

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Send BRPOP. Before that is the moment to bring back what has no home."""
        while self.unacked_entries:
            key, entry = self.unacked_entries[0]
            with self.conn_or_acquire() as client:
                client.rpush(key, entry)  # the end that is read next
            self.unacked_entries.popleft()
        super()._brpop_start(timeout)

    def _brpop_read(self, **options: Any) -> bool:  # noqa: ANN401
        """Read BRPOP's answer: kombu's own, but that runs loads() on it, and raises in the loop."""
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
            self.connection._deliver(self._read(popped[1], queue, int(priority or 0)), queue)  # noqa: SLF001
            return True
        finally:
            self._in_poll = False
            self._flush_brpop_reauth()

    def _return(self, key: str, raw: bytes) -> None:
        """Put back what was popped for a closing channel: kombu delivers it, to nobody perhaps."""
        try:
            with self.conn_or_acquire() as client:
                client.rpush(key, raw)
        except (*self.connection_errors, ResponseError):
            self._shelter(key, raw)

    def _shelter(self, key: str, entry: str | bytes) -> None:
        if self.unacked_entries is not None:
            self.unacked_entries.append((key, entry))
            logger.warning("entry_homeless count=%d", len(self.unacked_entries))

    def _read(self, raw: bytes, queue: str, priority: int) -> Any:  # noqa: ANN401
        if self.entry_gate is not None and queue in self.entry_gate.queues:
            return self.entry_gate.admit(raw, queue=queue, priority=priority)
        return loads(bytes_to_str(raw))  # answers to remote control of our own

    def _deliver_fanout_message(self, message: Any, exchange: str) -> bool | None:  # noqa: ANN401
        """Hand on remote control and events. One that can't be read ends a worker with kombu's."""
        try:
            self.Message(message, channel=self)
        except Exception as error:  # noqa: BLE001 - whatever a stranger has published
            logger.warning("broadcast_unreadable error=%s", type(error).__name__)
            return None
        delivered: bool | None = super()._deliver_fanout_message(message, exchange)
        return delivered

    def rescue(self, message: Any) -> None:  # noqa: ANN401
        """Remember a popped message until Redis takes it back."""
        raw = message._raw  # noqa: SLF001
        if isinstance(raw, Admitted):
            key = self._list_of(raw, raw["properties"]["delivery_info"]["routing_key"])
            self._shelter(key, json.dumps(raw))

    def put_back(self, pipe: Any, note: bytes, *, leftmost: bool) -> None:  # noqa: ANN401
        """Queue what the note of an unacked message says, in the pipeline.

        kombu asks the exchange where to; one that nobody declared is nowhere, the message is gone.
        """
        assert self.entry_gate is not None  # noqa: S101 - `restore_by_tag` has looked
        guarded = self.entry_gate.queues
        try:
            entry, exchange, queue = json.loads(note)
            entry["headers"]["redelivered"] = True
            entry["properties"]["delivery_info"]["redelivered"] = True
        except (ValueError, TypeError, KeyError, RecursionError):
            queue = min(guarded)
            entry = self.entry_gate.set_aside(
                RejectedEntry(raw=note, reason=Reason.UNACKED_UNREADABLE, detail="", queue=queue)
            )
        if queue in guarded:
            (pipe.lpush if leftmost else pipe.rpush)(self._list_of(entry, queue), json.dumps(entry))
        else:  # remote control
            self._do_restore_message(entry, exchange, queue, pipe, leftmost)

    def _list_of(self, entry: dict[str, Any], queue: str) -> str:
        key: str = self._q_for_pri(queue, self._get_message_priority(entry))
        return key


class GatedTransport(stock.Transport):
    """Selected for `redis://` and `rediss://` by `install`."""

    Channel = GatedChannel
