# mypy: disallow-untyped-calls=False
"""Counts the entries that wait on the queues. It imports little, as `worker status` runs often."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from redis import Redis, RedisError

from message_worker_client.broker_url import read_broker_url
from message_worker_client.redis_client import redis_client
from worker.domain.errors import BrokerAwayError
from worker.queue.broker import UNACKED, is_amqp

PRIORITIES: Final = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""kombu's suffixes of a queue's name, one list for each priority."""
_PATIENCE_S: Final = 3


def waiting_entries(url: str, queues: Iterable[str]) -> Mapping[str, int]:
    """Count the waiting entries of each queue, over a fresh connection; on Redis also the unacked.

    Entries of all priorities count, whose lists are apart on Redis. A queue that no worker has
    declared yet is empty. Raises `BrokerAwayError` with the name of the error.
    """
    if is_amqp(url):
        with _rabbitmq(url) as connection:
            return {name: _declared(connection, name)[0] for name in queues}
    with counting_client(url) as client:
        names, prefix = list(queues), read_broker_url(url).prefix
        with client.pipeline(transaction=False) as pipe:
            for name in names:
                for priority in PRIORITIES:
                    pipe.llen(prefix + name + priority)
            pipe.hlen(prefix + UNACKED)
            *lengths, unacked = map(int, pipe.execute())
        step = len(PRIORITIES)
        depths = {
            name: sum(lengths[number * step : (number + 1) * step])
            for number, name in enumerate(names)
        }
        return depths | {UNACKED: unacked}


@contextmanager
def counting_client(url: str) -> Iterator[Redis]:
    """Open a client of Redis for some questions. Raises `BrokerAwayError`, as above."""
    with _named(OSError, RedisError), redis_client(url, timeout_s=_PATIENCE_S) as client:
        yield client


def unconsumed_entries(url: str, queue: str) -> int:
    """Count the entries of a RabbitMQ queue that nobody consumes. Raises `BrokerAwayError`."""
    with _rabbitmq(url) as connection:
        messages, consumers = _declared(connection, queue)
        return 0 if consumers else messages


def rabbitmq_version(url: str) -> str:
    """Connect to a RabbitMQ and return its version. Raises `BrokerAwayError`, as above."""
    with _rabbitmq(url) as connection:
        return str(connection.connection.server_properties.get("version", "of an unknown version"))


@contextmanager
def _rabbitmq(url: str) -> Iterator[Any]:
    # Not at the top: with Redis, a command has no use for them.
    from amqp.exceptions import AMQPError  # noqa: PLC0415
    from kombu.connection import Connection  # noqa: PLC0415
    from kombu.exceptions import KombuError  # noqa: PLC0415

    options = {"read_timeout": _PATIENCE_S, "write_timeout": _PATIENCE_S}
    address = read_broker_url(url)
    with (
        _named(OSError, KombuError, AMQPError),
        Connection(
            address.bare,
            ssl=address.use_ssl,
            connect_timeout=_PATIENCE_S,
            transport_options=options,
        ) as connection,
    ):
        connection.ensure_connection(max_retries=0)
        yield connection


@contextmanager
def _named(*errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        # Only the type: the texts may quote what was sent.
        cause = error.__cause__ or error
        raise BrokerAwayError(type(cause).__name__) from cause


def _declared(connection: Any, queue: str) -> tuple[int, int]:  # noqa: ANN401 - kombu has no types
    """Count the messages and consumers of a queue; one that does not exist has none."""
    from amqp.exceptions import NotFound  # noqa: PLC0415 - see above

    # A channel for each queue: RabbitMQ closes it if the queue is missing.
    channel = connection.channel()
    try:
        found = channel.queue_declare(queue, passive=True)
    except NotFound:
        return 0, 0
    return int(found.message_count), int(found.consumer_count)
