"""The one place that makes Redis clients, all from the URL of the broker."""

from typing import Any

from redis import BlockingConnectionPool, Connection, ConnectionPool, Redis, SSLConnection
from redis.backoff import NoBackoff
from redis.retry import Retry

from message_worker_client.broker_url import read_broker_url


def redis_client(
    url: str,
    *,
    timeout_s: float,
    connect_timeout_s: float | None = None,
    **options: Any,  # noqa: ANN401 - redis-py's
) -> Redis:
    """Return a client with connections of its own; nothing connects yet. Raises ValueError.

    `timeout_s`: of each answer, and of a connection unless that has its own. Nothing is tried
    again: each caller has a deadline, and knows what a failure means. `options` are redis-py's of a
    connection; with `timeout`, a thread waits that long for one of `max_connections`.
    """
    address = read_broker_url(url)
    if address.is_amqp:
        raise ValueError("give redis://… or rediss://…")
    pool = BlockingConnectionPool if "timeout" in options else ConnectionPool
    return Redis.from_pool(
        pool(
            connection_class=Connection if address.tls is None else SSLConnection,
            host=address.host,
            port=address.port or 6379,
            db=address.database,
            username=address.user,
            password=address.password,
            socket_timeout=timeout_s,
            socket_connect_timeout=connect_timeout_s or timeout_s,
            retry=Retry(NoBackoff(), 0),
            **address.redis_tls,
            **options,
        )
    )
