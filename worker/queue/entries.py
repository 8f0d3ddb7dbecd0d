"""Finds and removes entries on the queues, and those that workers have taken."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from redis import Redis

from worker.domain.errors import RetryableError
from worker.queue.broker import QUEUES, UNACKED
from worker.queue.gate.entry import Oversized
from worker.queue.gate.redis_reader import MAX_VALUE_BYTES, bounded
from worker.queue.misplaced import MARK
from worker.queue.unwrap import without
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
            # A list of several users' messages stays, without theirs.
            rests = {entry: without(entry, belongs) for entry in page if belongs(entry)}
            theirs = [one for one in page if one in rests and rests[one] != one]
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
            for entry in set(theirs):
                if (rest := rests[entry]) is None:
                    removed += self._redis.lrem(name, 0, entry)
                else:
                    removed += self._replace(name, entry, rest)
            start -= sum(rests[entry] is None for entry in theirs)
        return removed

    def _replace(self, name: str, entry: bytes, rest: bytes) -> int:
        with self._redis.pipeline() as pipe:
            pipe.linsert(name, "BEFORE", entry, rest)
            pipe.lrem(name, 1, entry)
            return int(pipe.execute()[1])

    def in_hand(self, belongs: Callable[[bytes], bool]) -> Sequence[bytes]:
        """Return the keys of a user's entries that were taken and not acknowledged."""
        notes = self._redis.hscan_iter(self._unacked, count=_PAGE)
        return [key for key, note in notes if belongs(note) and without(note, belongs) != note]

    def forget(self, keys: Sequence[bytes], belongs: Callable[[bytes], bool]) -> int:
        """Keep a user's messages from coming back to the queue; return the number of entries."""
        forgotten = 0
        for key in keys:
            note = self._redis.hget(self._unacked, key)
            rest = None if note is None else without(note, belongs)
            if rest is not None:
                self._redis.hset(self._unacked, key, rest)
                forgotten += 1
                continue
            # The index first: kombu restores what the index names.
            self._redis.zrem(self._index, key)
            forgotten += self._redis.hdel(self._unacked, key)
        return forgotten
