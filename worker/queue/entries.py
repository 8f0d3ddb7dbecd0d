"""Entries of the queues in Redis, read and removed where they are: for `worker erase`.

kombu keeps a list for each queue and priority, and a hash of the entries that workers have taken
and not acknowledged. RabbitMQ has nothing of the kind: a message can only be seen by taking it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from redis import Redis

from worker.queue.broker import QUEUES, UNACKED

_INDEX: Final = "unacked_index"
"""kombu's sorted set beside the hash: when each entry was taken."""
_PRIORITIES: Final = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""kombu's suffixes of a queue's name, one list for each priority."""
_LISTS: Final = tuple(queue + priority for queue in QUEUES for priority in _PRIORITIES)
_PAGE: Final = 100


class QueueEntries:
    """Entries that wait on the queues, and entries that workers have taken and not acknowledged."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # its types know an entry only as text

    def remove(self, belongs: Callable[[bytes], bool], *, dry_run: bool = False) -> int:
        """Remove the waiting entries that belong to a user, and return their number."""
        removed = 0
        for name in _LISTS:
            entries = [entry for entry in self._entries(name) if belongs(entry)]
            if dry_run:
                removed += len(entries)
            else:
                # By value: positions shift as soon as a worker takes an entry.
                removed += sum(self._redis.lrem(name, 0, entry) for entry in set(entries))
        return removed

    def _entries(self, name: str) -> Iterator[bytes]:
        start = 0
        # From the end where producers push: an entry that comes or goes meanwhile may be read
        # twice, but hides none. From the other end, one that goes would make a page skip one.
        while page := self._redis.lrange(name, start, start + _PAGE - 1):
            yield from page
            start += len(page)

    def in_hand(self, belongs: Callable[[bytes], bool]) -> Sequence[bytes]:
        """Return the keys of a user's entries that were taken and not acknowledged."""
        notes = self._redis.hscan_iter(UNACKED, count=_PAGE)
        return [key for key, note in notes if belongs(note)]

    def forget(self, keys: Sequence[bytes]) -> int:
        """Keep these from coming back to the queue, and return their number."""
        if not keys:
            return 0
        # The index first: kombu restores what the index names.
        self._redis.zrem(_INDEX, *keys)
        return int(self._redis.hdel(UNACKED, *keys))
