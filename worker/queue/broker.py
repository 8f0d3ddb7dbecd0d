# mypy: disallow-untyped-calls=False
"""What differs between Redis and RabbitMQ: Celery's options, and how to count what waits.

RabbitMQ has quorum queues without a limit of deliveries: with the limit that RabbitMQ 4 sets, what
comes back while Postgres is away is thrown away after twenty times. Every publish is confirmed.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from amqp.exceptions import AMQPError, MessageNacked, NotFound
from kombu.connection import Connection
from kombu.exceptions import KombuError
from redis import Redis, RedisError

from worker.envelope.wire import INBOUND

TURNS: Final = "turns"
DELIVERIES: Final = "deliveries"
QUEUES: Final = (INBOUND, TURNS, DELIVERIES)
"""All that workers take from."""
ANSWER: Final = "channel_users.answer"
DELIVER: Final = "replies.deliver"
UNACKED: Final = "unacked"
"""Where kombu notes what a worker has taken and not acknowledged: a Redis hash."""
ERRORS: Final = (KombuError, AMQPError, MessageNacked, RedisError, OSError)
"""What a broker that fails may raise; AMQP's and Redis's texts may quote what was sent."""
_SHORTEST_VISIBILITY_S: Final = 120.0
_NO_LIMIT: Final = 2**31 - 1
"""Of deliveries: -1 says it better, but RabbitMQ 3 refuses to declare that."""
_PATIENCE_S: Final = 3


def is_amqp(url: str) -> bool:
    """Whether the broker is a RabbitMQ."""
    return url.startswith(("amqp://", "amqps://"))


def broker_name(url: str) -> str:
    """Name the server, for people."""
    return "RabbitMQ" if is_amqp(url) else "Redis"


def queue_options(url: str) -> dict[str, Any]:
    """Give what each of our queues is declared with."""
    if not is_amqp(url):
        return {}
    return {"queue_arguments": {"x-queue-type": "quorum", "x-delivery-limit": _NO_LIMIT}}


def broker_settings(url: str, *, longest_task_s: float, connections: int) -> dict[str, Any]:
    """Give Celery's settings for this broker. `connections`: how many threads acknowledge."""
    return _amqp_settings() if is_amqp(url) else _redis_settings(longest_task_s, connections)


def _redis_settings(longest_task_s: float, connections: int) -> dict[str, Any]:
    return {
        "task_publish_retry": False,
        "broker_transport_options": {
            # A shorter one gives a task that still runs to another worker; harmless, and wasteful.
            "visibility_timeout": max(_SHORTEST_VISIBILITY_S, longest_task_s),
            # By default kombu looks for a dead worker's messages only every hundred seconds or so.
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            # Without these a half-open connection is waited on for ever.
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            # Twice this and a second: so long is a BRPOP waited on that a dead connection holds.
            "health_check_interval": 3,
            # How long a publish tries to connect: kombu's own six seconds would stop the sweeper.
            "max_retries": 1,
            "interval_start": 0,
            # Every thread acknowledges for itself; kombu's ten connections would make acks fail.
            "max_connections": connections,
        },
    }


def _amqp_settings() -> dict[str, Any]:
    return {
        # The connection that lay idle may be gone; py-amqp finds out by writing to it.
        "task_publish_retry": True,
        "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0, "interval_max": 0},
        # RabbitMQ would hang up on connections that publish now and then: nobody sends any there.
        "broker_heartbeat": 0,
        "broker_transport_options": {
            "confirm_publish": True,
            # A RabbitMQ short of memory or disk takes a message and confirms nothing.
            "read_timeout": 5,
            "write_timeout": 5,
            "max_retries": 1,
            "interval_start": 0,
        },
    }


def waiting_entries(url: str, queues: Iterable[str]) -> Mapping[str, int]:
    """Count what waits in each queue, on a fresh connection; on Redis also what is unacked.

    Raises one of `ERRORS`. A queue that no worker has declared yet is empty.
    """
    return _in_rabbitmq(url, queues) if is_amqp(url) else _in_redis(url, queues)


def _in_redis(url: str, queues: Iterable[str]) -> Mapping[str, int]:
    with Redis.from_url(
        url, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S
    ) as client:
        depths = {name: int(client.llen(name)) for name in queues}
        return depths | {UNACKED: int(client.hlen(UNACKED))}


def rabbitmq_version(url: str) -> str:
    """Connect to a RabbitMQ, and say which it is. Raises one of `ERRORS`."""
    with _rabbitmq(url) as connection:
        return str(connection.connection.server_properties.get("version", "of an unknown version"))


def _in_rabbitmq(url: str, queues: Iterable[str]) -> Mapping[str, int]:
    with _rabbitmq(url) as connection:
        return {name: _depth(connection, name) for name in queues}


@contextmanager
def _rabbitmq(url: str) -> Iterator[Any]:
    options = {"read_timeout": _PATIENCE_S, "write_timeout": _PATIENCE_S}
    with Connection(url, connect_timeout=_PATIENCE_S, transport_options=options) as connection:
        connection.ensure_connection(max_retries=0)
        yield connection


def _depth(connection: Any, queue: str) -> int:  # noqa: ANN401 - kombu has no types
    channel = connection.channel()  # one each: RabbitMQ closes it where the queue is missing
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except NotFound:
        return 0
