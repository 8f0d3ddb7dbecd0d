# mypy: disallow-untyped-calls=False
"""Takes entries off the queues in Redis and notes them as unacknowledged, in one step.

kombu removes an entry with BRPOP and writes its note afterwards: a worker that is killed in between
loses it. Here a script does both, for several entries at once, and also acknowledges those that are
done. A script cannot wait. So a worker that finds all queues empty waits in BLMOVE, which moves the
next entry to the list of the next lower priority. The worker then runs the script. If it is killed
instead, the entry is on a list that every worker reads, those of earlier releases too.
"""

import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from time import time
from typing import Any, Final

from kombu.transport import redis as stock
from kombu.transport import virtual
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from worker.domain.reasons import DeadLetterReason as Reason
from worker.queue.gate.entry import Oversized, RejectedEntry

MOST: Final = 16
"""Entries at a time, and acknowledgements."""
_MOST_BYTES: Final = 64 * 1024
"""Of the entries of one take, the last of which may be larger: an entry may be a long list."""
_MOST_DONE: Final = 1000
"""Acknowledgements of one command, after a long time without Redis."""
_FAIR: Final = 64
"""Once in this number of takes, an entry of the lower priority comes first. A killed worker may
have moved it there, and while more messages come than go, the list would never have its turn."""

_TAKE: Final = """
local queues, at = tonumber(ARGV[3]), 4 + tonumber(ARGV[3])
local first = at + 1
local done = first + tonumber(ARGV[at])
local tag = done + 1 + tonumber(ARGV[done])
if tag > done + 1 then
    redis.call('ZREM', KEYS[2], unpack(ARGV, done + 1, tag - 1))
    redis.call('HDEL', KEYS[1], unpack(ARGV, done + 1, tag - 1))
end
local bytes, taken = 0, {}
local function take(key)
    if tag > #ARGV or bytes >= tonumber(ARGV[2]) then return false end
    -- RPOP before the notes: a Redis whose memory is full refuses a script that begins with those.
    local entry = redis.pcall('RPOP', KEYS[key])
    if type(entry) ~= 'string' then return false end
    local note = '[' .. entry .. ', "", "' .. ARGV[4 + (key - 3) % queues] .. '"]'
    local noted = redis.pcall('ZADD', KEYS[2], ARGV[1], ARGV[tag])
    if type(noted) ~= 'table' then noted = redis.pcall('HSET', KEYS[1], ARGV[tag], note) end
    if type(noted) == 'table' then
        redis.call('RPUSH', KEYS[key], entry)
        error(noted.err)
    end
    taken[#taken + 1] = key - 3
    taken[#taken + 1] = entry
    tag, bytes = tag + 1, bytes + #entry
    return true
end
for number = first, done - 1 do take(3 + queues + ARGV[number]) end
-- Without queues it only acknowledges; a step of zero would never end.
for list = 3, #KEYS, math.max(queues, 1) do
    local found = true
    while found do
        found = false
        for key = list, list + queues - 1 do found = take(key) or found end
    end
end
return taken
"""
"""KEYS: hash and index of the unacknowledged, then the lists: priority by priority, each with one
list for each queue. ARGV: the time, the most bytes, and three times a number with as many values:
the queues; numbers of queues whose list of the next lower priority comes first; tags of what is
done. Then a tag for each entry to take. Returns the number of its list and the entry, for each.

Of one priority, the queues take turns."""


@dataclass(slots=True)
class OpenTags:
    """Delivery tags that Redis has yet to hear of. One for the process: it outlives connections."""

    done: list[str] = field(default_factory=list)
    """To be acknowledged."""
    in_doubt: deque[str] = field(default_factory=deque)
    """Of a take that failed: entries may be noted under them, and nobody works on those."""

    def __json__(self) -> str:
        # `celery inspect conf` prints the transport's options, this among them.
        return repr(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An entry that was taken."""

    raw: bytes
    queue: str
    step: int
    """Number of its priority's list."""
    tag: str


_PUT_BACK: Final = """
local note = redis.call('HGET', KEYS[1], ARGV[1])
redis.call(ARGV[2], KEYS[2], string.sub(note, 2, -1 - ARGV[3]))
"""
"""KEYS: hash, list. ARGV: tag, LPUSH or RPUSH, length of the note's tail. For notes of any size."""


def put_back(channel: Any, pipe: Any, note: bytes, tag: str, *, leftmost: bool) -> bool:  # noqa: ANN401 - kombu's
    """Queue the message of a note again, in the pipeline; False = it is not ours."""
    # kombu asks the exchange for the list. An undeclared exchange has none, and the message
    # would be lost: so entries of our queues go back by the queue's name alone.
    gate, push = channel.entry_gate, "LPUSH" if leftmost else "RPUSH"
    try:
        # The first bytes of a large note may be a message, but the whole is none of ours.
        entry, _, queue = json.loads(b"" if isinstance(note, Oversized) else note)
        entry["headers"]["redelivered"] = True
        entry["properties"]["delivery_info"]["redelivered"] = True
    except (ValueError, TypeError, KeyError, RecursionError):
        for queue in gate.queues:
            if (tail := _tail(note, queue)) is not None:
                # The bytes as they came, before the gate had looked at them.
                keys = [channel.global_keyprefix + one for one in (channel.unacked_key, queue)]
                pipe.eval(_PUT_BACK, len(keys), *keys, tag, push, len(tail))
                return True
        queue = min(gate.queues)
        entry = gate.set_aside(
            RejectedEntry.of(note, reason=Reason.UNACKED_UNREADABLE, detail="", queue=queue)
        )
    # Another application in this database has the same hash, and tasks that may take longer.
    if queue in gate.queues:
        getattr(pipe, push.lower())(channel.list_of(entry, queue), json.dumps(entry))
    return queue in gate.queues


def _tail(note: bytes, queue: str) -> bytes | None:
    """Return what follows the entry in a note that the script wrote; None = another note."""
    tail = f', "", "{queue}"]'.encode()
    end = note.tail if isinstance(note, Oversized) else note
    return tail if end.endswith(tail) else None


class Take:
    """The script, over one connection pool. `lists`: of each queue, in order of priority."""

    def __init__(self, pool: Any, *, notes: Sequence[str], tags: OpenTags) -> None:  # noqa: ANN401
        # Not kombu's client: it puts the prefix before the first key alone.
        self._script = Redis(connection_pool=pool).register_script(_TAKE)
        self._notes = notes
        self._tags = tags
        self._takes = 0

    def __call__(
        self, lists: Sequence[tuple[str, Sequence[str]]], new: Sequence[str], moved: Iterable[str]
    ) -> tuple[list[Taken], bool]:
        """Acknowledge what is done and take an entry for each new tag.

        `lists`: by queue, in turn. `moved`: queues whose list of the next lower priority comes
        first. Also returns whether more may be there. If it raises, the new tags are in doubt.
        """
        names = [queue for queue, _ in lists]
        self._takes += 1
        first = names if self._takes % _FAIR == 0 else [one for one in names if one in moved]
        done = self._tags.done[:_MOST_DONE]
        self._tags.in_doubt += new
        found = self._run(
            keys=[*self._notes, *chain(*zip(*(keys for _, keys in lists), strict=True))],
            args=[
                *(time(), _MOST_BYTES, len(names), *names),
                *(len(first), *map(names.index, first), len(done), *done, *new),
            ],
        )
        del self._tags.done[: len(done)]
        taken = [
            Taken(raw=raw, queue=names[place % len(names)], step=place // len(names), tag=tag)
            for place, raw, tag in zip(found[::2], found[1::2], new, strict=False)
        ]
        for _ in range(len(new) - len(taken)):
            self._tags.in_doubt.pop()
        size = sum(len(one.raw) for one in taken)
        return taken, len(taken) == len(new) or size >= _MOST_BYTES

    def _run(self, *, keys: list[str], args: list[Any]) -> list[Any]:
        found: list[Any] = self._script(keys=keys, args=args)
        return found


class GatedQoS(stock.QoS):
    """The notes of unacked messages."""

    # redis-py quotes the command, content included, in the errors of its pipelines, and Celery logs
    # them. So `restore_by_tag` raises a new error with only the type, outside of `except`:
    # otherwise the original would be logged as its context.

    def append(self, message: Any, delivery_tag: str) -> None:  # noqa: ANN401
        """Remember a message, which was noted when it was taken."""
        if self.channel.takes:
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge, soon and with others."""
        if self.channel.entry_gate is None:
            super().ack(delivery_tag)
            return
        virtual.QoS.ack(self, delivery_tag)
        self.channel.acknowledge(delivery_tag)

    def in_flight(self) -> int:
        """Return how many messages are taken and not done."""
        return len(self._delivered) - len(self._dirty)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:  # noqa: ANN401, FBT001, FBT002 - kombu's
        """Put a message back on its list; kombu's own loses or trips over one it can't read."""
        if self.channel.entry_gate is None:
            super().restore_by_tag(tag, client=client, leftmost=leftmost)
            return

        def restore_transaction(pipe: Any) -> None:  # noqa: ANN401
            note = pipe.hget(self.unacked_key, tag)
            pipe.multi()
            if not note or put_back(self.channel, pipe, note, tag, leftmost=leftmost):
                self._remove_from_indices(tag, pipe)

        try:
            with self.channel.conn_or_acquire(client) as connected:
                connected.transaction(restore_transaction, self.unacked_key)
        except (*self.channel.connection_errors, ResponseError) as error:
            failure = type(error).__name__
        else:
            return
        raise RedisConnectionError(f"could not restore an unacked message ({failure})")
