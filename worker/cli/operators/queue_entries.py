"""The broker's queues as they lie in Redis, read without taking anything: for `worker erase`.

RabbitMQ shows nobody what waits in a queue without handing it out: there they have to be empty.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from redis import Redis, RedisError

from worker.cli.errors import CommandError
from worker.cli.send.producer import broker_is_away
from worker.queue.broker import ERRORS, QUEUES, UNACKED, is_amqp, waiting_entries

_INDEX: Final = "unacked_index"
"""kombu's sorted set beside the hash: when each was taken."""
_PRIORITIES: Final = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""What kombu adds to a queue's name for the lists of its priorities."""
_LISTS: Final = tuple(queue + priority for queue in QUEUES for priority in _PRIORITIES)
_PAGE: Final = 100


class QueueEntries:
    """What waits on the queues, and what workers have taken and not acknowledged."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # its types know an entry only as text

    def remove(self, belongs: Callable[[bytes], bool], *, dry_run: bool = False) -> int:
        """Take his entries out; gives how many there were."""
        removed = 0
        for name in _LISTS:
            his = [entry for entry in self._entries(name) if belongs(entry)]
            if dry_run:
                removed += len(his)
            else:
                removed += sum(self._redis.lrem(name, 0, entry) for entry in set(his))
        return removed

    def _entries(self, name: str) -> Iterator[bytes]:
        """Go from the end where producers push: what comes and goes meanwhile hides nothing."""
        start = 0
        while page := self._redis.lrange(name, start, start + _PAGE - 1):
            yield from page
            start += len(page)

    def in_hand(self, belongs: Callable[[bytes], bool]) -> Sequence[bytes]:
        """Give the keys of his entries that were taken and not acknowledged."""
        notes = self._redis.hscan_iter(UNACKED, count=_PAGE)
        return [key for key, note in notes if belongs(note)]

    def forget(self, keys: Sequence[bytes]) -> int:
        """Let those not come back; gives how many there were."""
        if not keys:
            return 0
        self._redis.zrem(_INDEX, *keys)
        return int(self._redis.hdel(UNACKED, *keys))


class EmptyQueues:
    """Those of a RabbitMQ, which were found empty."""

    def remove(self, belongs: Callable[[bytes], bool], *, dry_run: bool = False) -> int:  # noqa: ARG002
        """Take out none."""
        return 0

    def in_hand(self, belongs: Callable[[bytes], bool]) -> Sequence[bytes]:  # noqa: ARG002
        """Give none: RabbitMQ does not tell, and what comes back is a new message of his."""
        return ()

    def forget(self, keys: Sequence[bytes]) -> int:
        """Forget none."""
        return len(keys)


@contextmanager
def queue_entries(broker_url: str) -> Iterator[QueueEntries | EmptyQueues]:
    """Connect to the broker. Raises `CommandError` where it is away."""
    if is_amqp(broker_url):
        _refuse_waiting(broker_url)
        yield EmptyQueues()
        return
    try:
        with Redis.from_url(broker_url, socket_timeout=15, socket_connect_timeout=3) as redis:
            yield QueueEntries(redis)
    except RedisError as error:  # not OSError: that may be whoever uses it, whose stdout is closed
        raise broker_is_away(error, broker_url) from error


def _refuse_waiting(broker_url: str) -> None:
    try:
        waiting = sum(waiting_entries(broker_url, QUEUES).values())
    except ERRORS as error:
        raise broker_is_away(error, broker_url) from error
    if waiting:
        raise CommandError(
            f"{waiting} entries wait in RabbitMQ, and his may be among them:"
            " let the workers take them, then run it again"
        )
