"""Finds and removes entries on the queues, and those that workers have taken."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from redis import Redis

from worker.domain.errors import RetryableError
from worker.queue.broker import QUEUES, UNACKED
from worker.queue.gate.entry import Oversized
from worker.queue.gate.redis_reader import MAX_VALUE_BYTES, bounded
from worker.queue.misplaced import MARK
from worker.queue.waiting import PRIORITIES

_INDEX: Final = "unacked_index"
"""kombu's sorted set beside the hash: when each entry was taken."""
_PAGE: Final = 16
"""Entries at a time: each may have three megabytes."""


class QueueEntries:
    """Entries that wait on the queues, and entries that workers have taken and not acknowledged.

    `misplaced`: returns the other queues on which messages wait; it may raise `RetryableError`.
    """

    def __init__(
        self, redis: Redis, *, prefix: str = "", misplaced: Callable[[], Iterable[str]] = tuple
    ) -> None:
        pool = redis.connection_pool
        # Of an entry larger than any message, the head comes.
        pool.connection_class = bounded(pool.connection_class)
        self._redis: Any = redis  # its types know an entry only as text
        self._prefix, self._misplaced = prefix, misplaced
        self._unacked, self._index = prefix + UNACKED, prefix + _INDEX

    def remove(self, belongs: Callable[[bytes], bool], *, dry_run: bool = False) -> int:
        """Remove the waiting entries that belong to a user, and return their number.

        Raises `RetryableError` if one of them is larger than any message: only a worker can.
        """

        def is_message(entry: bytes) -> bool:
            return MARK.encode() in entry and belongs(entry)

        def remove(queue: str, which: Callable[[bytes], bool]) -> int:
            names = [self._prefix + queue + priority for priority in PRIORITIES]
            return sum(self._remove(name, which, dry_run=dry_run) for name in names)

        removed = sum(remove(queue, belongs) for queue in QUEUES)
        return removed + sum(remove(queue, is_message) for queue in self._misplaced())

    def _remove(self, name: str, belongs: Callable[[bytes], bool], *, dry_run: bool) -> int:
        start = removed = 0
        # From the end where producers push: an entry that comes or goes meanwhile may be read
        # twice, but hides none. From the other end, one that goes would make a page skip one.
        while page := self._redis.lrange(name, start, start + _PAGE - 1):
            theirs = [entry for entry in page if belongs(entry)]
            start += len(page)
            if dry_run:
                removed += len(theirs)
                continue
            if any(isinstance(entry, Oversized) for entry in theirs):
                raise RetryableError(
                    f"an entry of more than {MAX_VALUE_BYTES} bytes in the queue {name[:20]!r}"
                    " names this channel user: let the workers take it, then run it again"
                )
            # By value: positions shift as soon as a worker takes an entry.
            removed += sum(self._redis.lrem(name, 0, entry) for entry in set(theirs))
            start -= len(theirs)
        return removed

    def in_hand(self, belongs: Callable[[bytes], bool]) -> Sequence[bytes]:
        """Return the keys of a user's entries that were taken and not acknowledged."""
        notes = self._redis.hscan_iter(self._unacked, count=_PAGE)
        return [key for key, note in notes if belongs(note)]

    def forget(self, keys: Sequence[bytes]) -> int:
        """Keep these from coming back to the queue, and return their number."""
        if not keys:
            return 0
        # The index first: kombu restores what the index names.
        self._redis.zrem(self._index, *keys)
        return int(self._redis.hdel(self._unacked, *keys))
