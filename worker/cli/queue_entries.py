"""The broker's queues as they lie in Redis, read without taking anything: for `worker erase`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError

from worker.cli.producer import INBOUND, UNACKED, broker_is_away

_INDEX: Final = "unacked_index"
"""kombu's sorted set beside the hash: when each was taken."""
_PRIORITIES: Final = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""What kombu adds to a queue's name for the lists of its priorities."""
_LISTS: Final = tuple(
    queue + priority for queue in (INBOUND, "turns", "deliveries") for priority in _PRIORITIES
)
_PAGE: Final = 100


class QueueEntries:
    """What waits on the queues, and what workers have taken and not acknowledged."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # its types know an entry only as text

    def remove(self, is_his: Callable[[bytes], bool], *, dry_run: bool = False) -> int:
        """Take his entries out; gives how many there were."""
        removed = 0
        for name in _LISTS:
            his = [entry for entry in self._entries(name) if is_his(entry)]
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

    def in_hand(self, is_his: Callable[[bytes], bool]) -> Sequence[bytes]:
        """Give the keys of his entries that were taken and not acknowledged."""
        notes = self._redis.hscan_iter(UNACKED, count=_PAGE)
        return [key for key, note in notes if is_his(note)]

    def forget(self, keys: Sequence[bytes]) -> int:
        """Let those not come back; gives how many there were."""
        if not keys:
            return 0
        self._redis.zrem(_INDEX, *keys)
        return int(self._redis.hdel(UNACKED, *keys))


@contextmanager
def queue_entries(broker_url: str) -> Iterator[QueueEntries]:
    """Connect to the broker. Raises `CommandError` where it is away."""
    try:
        with Redis.from_url(broker_url, socket_timeout=15, socket_connect_timeout=3) as redis:
            yield QueueEntries(redis)
    except (RedisError, OSError) as error:
        raise broker_is_away(error) from error
