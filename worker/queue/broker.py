# mypy: disallow-untyped-calls=False
"""The differences between Redis and RabbitMQ: Celery's options, and how entries are counted."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from amqp.exceptions import AMQPError, MessageNacked, NotFound
from kombu.connection import Connection
from kombu.exceptions import KombuError
from redis import Redis, RedisError

from message_worker_client.broker_url import read_broker_url
from message_worker_client.envelope.wire import INBOUND
from message_worker_client.redis_client import redis_client
from worker.domain.errors import RetryableError
from worker.queue.gate.entry import Oversized
from worker.queue.gate.redis_reader import MAX_VALUE_BYTES, bounded

TURNS: Final = "turns"
DELIVERIES: Final = "deliveries"
QUEUES: Final = (INBOUND, TURNS, DELIVERIES)
"""All queues that workers consume."""
ANSWER: Final = "channel_users.answer"
DELIVER: Final = "replies.deliver"
UNACKED: Final = "unacked"
"""The Redis hash in which kombu notes messages that a worker took and has not acknowledged."""
PRIORITIES: Final = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""kombu's suffixes of a queue's name, one list for each priority."""
ERRORS: Final = (KombuError, AMQPError, MessageNacked, RedisError, OSError)
"""Errors of a failing broker. Log only their type: the texts may quote what was sent."""
_SHORTEST_VISIBILITY_S: Final = 120.0
_NO_LIMIT: Final = 2**31 - 1
"""Deliveries of one message. -1 means no limit, but RabbitMQ 3 refuses to declare it."""
PATIENCE_S: Final = 3
_AMQP_SETTINGS: Final[dict[str, Any]] = {
    # An idle connection may be dead; py-amqp notices only when it writes.
    "task_publish_retry": True,
    "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0, "interval_max": 0},
    # RabbitMQ would close connections that only publish now and then: nothing sends heartbeats
    # on those.
    "broker_heartbeat": 0,
    "broker_transport_options": {
        "confirm_publish": True,
        # A RabbitMQ short of memory or disk accepts a message and confirms nothing.
        "read_timeout": 5,
        "write_timeout": 5,
        "max_retries": 1,
        "interval_start": 0,
    },
}


def is_amqp(url: str) -> bool:
    """Return whether the broker is a RabbitMQ."""
    return url.startswith(("amqp://", "amqps://"))


def broker_name(url: str) -> str:
    """Return the server's name for messages to people."""
    return "RabbitMQ" if is_amqp(url) else "Redis"


def queue_options(url: str) -> dict[str, Any]:
    """Return the options that each of our queues is declared with."""
    if not is_amqp(url):
        return {}
    # RabbitMQ 4 discards a message after 20 deliveries by default. While Postgres is away, messages
    # come back more often than that.
    return {"queue_arguments": {"x-queue-type": "quorum", "x-delivery-limit": _NO_LIMIT}}


def broker_settings(url: str, *, longest_task_s: float, connections: int) -> dict[str, Any]:
    """Return Celery's settings for this broker. `connections`: threads that acknowledge."""
    if is_amqp(url):
        return _AMQP_SETTINGS
    return {
        "task_publish_retry": False,
        "broker_transport_options": {
            # With a shorter one, a task that still runs also goes to another worker: harmless, but
            # a waste.
            "visibility_timeout": max(_SHORTEST_VISIBILITY_S, longest_task_s),
            # By default kombu looks for a dead worker's messages only every 100 seconds or so.
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            # Without these, a half-open connection blocks for ever.
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            # A BRPOP on a dead connection is given up after twice this time and a second.
            "health_check_interval": 3,
            # Limits how long a publish tries to connect: kombu's own 6 s would stop the sweeper.
            "max_retries": 1,
            "interval_start": 0,
            # Every thread acknowledges for itself. With kombu's default of 10, acks would fail.
            "max_connections": connections,
        },
    }


def waiting_entries(url: str, queues: Iterable[str]) -> Mapping[str, int]:
    """Count the waiting entries of each queue, over a fresh connection; on Redis also the unacked.

    Entries of all priorities count, whose lists are apart on Redis. Raises one of `ERRORS`. A
    queue that no worker has declared yet is empty.
    """
    if is_amqp(url):
        with _rabbitmq(url) as connection:
            return {name: _depth(connection, name) for name in queues}
    with redis_client(url, timeout_s=PATIENCE_S) as client:
        names = list(queues)
        with client.pipeline(transaction=False) as pipe:
            for name in names:
                for priority in PRIORITIES:
                    pipe.llen(name + priority)
            pipe.hlen(UNACKED)
            *lengths, unacked = map(int, pipe.execute())
        step = len(PRIORITIES)
        depths = {
            name: sum(lengths[number * step : (number + 1) * step])
            for number, name in enumerate(names)
        }
        return depths | {UNACKED: unacked}


def unconsumed_entries(url: str, queue: str) -> int:
    """Count the entries of a RabbitMQ queue that nobody consumes. Raises one of `ERRORS`."""
    with _rabbitmq(url) as connection:
        found = _declared(connection, queue)
        return 0 if found is None or found.consumer_count else int(found.message_count)


def rabbitmq_version(url: str) -> str:
    """Connect to a RabbitMQ and return its version. Raises one of `ERRORS`."""
    with _rabbitmq(url) as connection:
        return str(connection.connection.server_properties.get("version", "of an unknown version"))


@contextmanager
def _rabbitmq(url: str) -> Iterator[Any]:
    options = {"read_timeout": PATIENCE_S, "write_timeout": PATIENCE_S}
    address = read_broker_url(url)
    with Connection(
        address.bare,
        ssl=address.use_ssl,
        connect_timeout=PATIENCE_S,
        transport_options=options,
    ) as connection:
        connection.ensure_connection(max_retries=0)
        yield connection


def _depth(connection: Any, queue: str) -> int:  # noqa: ANN401 - kombu has no types
    found = _declared(connection, queue)
    return 0 if found is None else int(found.message_count)


def _declared(connection: Any, queue: str) -> Any:  # noqa: ANN401
    """Return the counts of a queue; None = there is no such queue."""
    # A channel for each queue: RabbitMQ closes it if the queue is missing.
    channel = connection.channel()
    try:
        return channel.queue_declare(queue, passive=True)
    except NotFound:
        return None


_INDEX: Final = "unacked_index"
"""kombu's sorted set beside the hash: when each entry was taken."""
_LISTS: Final = tuple(queue + priority for queue in QUEUES for priority in PRIORITIES)
_PAGE: Final = 16
"""Entries at a time: each may have three megabytes."""


class QueueEntries:
    """Entries that wait on the queues, and entries that workers have taken and not acknowledged."""

    def __init__(self, redis: Redis) -> None:
        pool = redis.connection_pool
        # Of an entry larger than any message, the head comes.
        pool.connection_class = bounded(pool.connection_class)
        self._redis: Any = redis  # its types know an entry only as text

    def remove(self, belongs: Callable[[bytes], bool], *, dry_run: bool = False) -> int:
        """Remove the waiting entries that belong to a user, and return their number.

        Raises `RetryableError` if one of them is larger than any message: only a worker can.
        """
        return sum(self._remove(name, belongs, dry_run=dry_run) for name in _LISTS)

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
        notes = self._redis.hscan_iter(UNACKED, count=_PAGE)
        return [key for key, note in notes if belongs(note)]

    def forget(self, keys: Sequence[bytes]) -> int:
        """Keep these from coming back to the queue, and return their number."""
        if not keys:
            return 0
        # The index first: kombu restores what the index names.
        self._redis.zrem(_INDEX, *keys)
        return int(self._redis.hdel(UNACKED, *keys))
