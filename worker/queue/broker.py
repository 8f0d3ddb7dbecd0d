"""Names of queues and tasks, and Celery's settings, for Redis and for RabbitMQ.

Celery wakes and spreads the work; Postgres is the record. So every setting here prefers doing
something twice, which is harmless, over losing it.
"""

import socket
from typing import Any, Final

from message_worker_client.broker_url import read_broker_url
from message_worker_client.envelope.wire import INBOUND, RECEIVE

TURNS: Final = "turns"
DELIVERIES: Final = "deliveries"
QUEUES: Final = (INBOUND, TURNS, DELIVERIES)
"""All queues that workers consume."""
EVENT: Final = "channels.event"
"""An event of Telnyx that the gateway could not store, as Postgres was away."""
ANSWER: Final = "channel_users.answer"
DELIVER: Final = "replies.deliver"
UNACKED: Final = "unacked"
"""The Redis hash in which kombu notes messages that a worker took and has not acknowledged."""
_SHORTEST_VISIBILITY_S: Final = 120.0
_NO_LIMIT: Final = 2**31 - 1
"""For the deliveries of one message -1 means none, too, but RabbitMQ 3 refuses to declare it."""
_KEEPALIVE: Final = {
    # A half-open connection ends after eight seconds. Not every system has all of them.
    number: value
    for name, value in {"TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 2}.items()
    if (number := getattr(socket, name, None)) is not None
}
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


def celery_settings(url: str, *, concurrency: int, longest_task_s: float) -> dict[str, Any]:
    """Return Celery's settings. Most were chosen for the case that a process or a server dies."""
    broker = read_broker_url(url)
    return {
        # Without its options: kombu would read them in its own way.
        "broker_url": broker.bare,
        "broker_use_ssl": broker.use_ssl,
        "broker_connection_retry_on_startup": True,
        # By default a worker ends after 100 attempts. Without a broker, Postgres still has work.
        "broker_connection_max_retries": None,
        # Otherwise an error reply of Redis (memory full, a wrong type) ends the worker.
        "broker_channel_error_retry": True,
        **_broker_settings(url, longest_task_s=longest_task_s),
        # Acknowledge after the commit: a worker that dies before it leaves its messages to others.
        "task_acks_late": True,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_queues": {name: queue_options(url) for name in QUEUES},
        "task_default_queue": INBOUND,
        "task_routes": {
            RECEIVE: {"queue": INBOUND},
            EVENT: {"queue": INBOUND},
            ANSWER: {"queue": TURNS},
            DELIVER: {"queue": DELIVERIES},
        },
        # Prefork needs 90 MB a process; gevent stalls with Redis and late acks.
        "worker_pool": "threads",
        "worker_concurrency": concurrency,
        # With more, messages would wait in a busy process while another one is idle.
        "worker_prefetch_multiplier": 1,
        # For Flower.
        "worker_send_task_events": True,
        # Celery would otherwise replace our handlers, see `configure_logging`.
        "worker_hijack_root_logger": False,
        "worker_enable_remote_control": True,
        # With Celery's own names, `control` and Flower of each application in a Redis reach the
        # workers of all others.
        "control_exchange": "worker",
        "event_exchange": "workerev",
    }


def _broker_settings(url: str, *, longest_task_s: float) -> dict[str, Any]:
    """Return Celery's settings for this broker."""
    if is_amqp(url):
        return _AMQP_SETTINGS
    return {
        "task_publish_retry": False,
        "broker_transport_options": {
            "global_keyprefix": read_broker_url(url).prefix,
            # With a shorter one, a task that still runs also goes to another worker: harmless, but
            # a waste.
            "visibility_timeout": max(_SHORTEST_VISIBILITY_S, longest_task_s),
            # By default kombu looks for a dead worker's messages only every 100 seconds or so.
            "unacked_restore_interval": 30,
            "unacked_restore_throttle": 1,
            # Without these, a half-open connection blocks for ever. The kernel looks after those
            # on which we wait: looking ourselves, 60 idle processes would do little else.
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "socket_keepalive_options": _KEEPALIVE,
            "health_check_interval": 60,
            "reauth_check_interval": 60,
            # Limits how long a publish tries to connect: kombu's own 6 s would stop the sweeper.
            "max_retries": 1,
            "interval_start": 0,
            # Each thread that publishes has one: with kombu's default of 10, some would fail.
            "max_connections": _NO_LIMIT,
        },
    }
