"""What a Redis user needs to be allowed: the commands, keys and channels of a worker.

Since Redis 7 a new user may use no channel. Such a worker loses its connection as soon as it
subscribes to remote control, and takes a message or two in between.
"""

import re
from collections.abc import Iterator
from typing import Final

from redis.exceptions import NoPermissionError

from message_worker_client.broker_url import read_broker_url
from message_worker_client.envelope.wire import INBOUND
from message_worker_client.redis_client import redis_client

_BINDINGS: Final = "_kombu.binding.worker.pidbox"
_COMMANDS: Final = (
    ("LPUSH", INBOUND, ""),
    ("RPUSH", INBOUND, ""),
    ("BRPOP", INBOUND, 1),
    ("BLMOVE", INBOUND, INBOUND, "RIGHT", "RIGHT", 1),
    ("RPOP", INBOUND),
    ("LRANGE", INBOUND, 0, 0),
    ("LREM", INBOUND, 0, ""),
    ("LLEN", INBOUND),
    ("HSET", "unacked", "", ""),
    ("HGET", "unacked", ""),
    ("HDEL", "unacked", ""),
    ("HLEN", "unacked"),
    ("HSCAN", "unacked", 0),
    ("ZADD", "unacked_index", 0, ""),
    ("ZREM", "unacked_index", ""),
    ("ZRANGE", "unacked_index", 0, 0),
    ("SET", "unacked_mutex", ""),
    ("DEL", "unacked_mutex"),
    ("EVAL", "return 1", 1, "unacked"),
    ("EVALSHA", "0" * 40, 1, "unacked_mutex"),
    ("SADD", _BINDINGS, ""),
    ("SREM", _BINDINGS, ""),
    ("SMEMBERS", _BINDINGS),
    ("EXISTS", _BINDINGS),
    ("SCAN", 0),
    ("TYPE", _BINDINGS),
    ("PING",),
    ("INFO",),
    ("SCRIPT", "LOAD", "return 1"),
)
"""Those of kombu's transport, of this service, and of its commands that read the queues."""
_KEYS: Final = (INBOUND, "unacked", "unacked_index", "unacked_mutex", _BINDINGS)
_CHANNELS: Final = ("worker.pidbox", "workerev/worker.heartbeat")
_LIVE: Final = "worker:live:doctor"


def missing_rights(url: str, *, timeout_s: float, live: bool) -> tuple[str, ...]:
    """Return the rules of `ACL SETUSER` that the user lacks. Changes nothing; raises RedisError.

    `live`: whether replies are shown while they are written, over channels of their own.
    """
    address = read_broker_url(url)
    channels = [f"{address.prefix}/{address.database}.{name}" for name in _CHANNELS]
    # Redis checks each command's rights when it is queued, so none of them has to be executed.
    queued: list[tuple[object, ...]] = [("MULTI",)]
    for command, *words in _COMMANDS:
        queued.append((command, *(address.prefix + one if one in _KEYS else one for one in words)))
    queued += [("PUBLISH", name, "") for name in [*channels, *([_LIVE] if live else [])]]
    queued += [("DISCARD",)]
    # RESP2: in RESP3 the answer to SUBSCRIBE is pushed apart from the others.
    with redis_client(url, timeout_s=timeout_s, protocol=2) as client:
        connection = client.connection_pool.get_connection()
        try:
            found = [*_refused(connection, queued)]
            # Last: the connection is of no other use any more. A pattern's rule is another one.
            found += [*_refused(connection, [("SUBSCRIBE", channels[0])])]
            found += [*_refused(connection, [("PSUBSCRIBE", channels[0])])]
        finally:
            connection.disconnect()
    return tuple(dict.fromkeys(found))


def _refused(connection: object, commands: list[tuple[object, ...]]) -> Iterator[str]:
    for command in commands:
        connection.send_command(*command)  # type: ignore[attr-defined]
        try:
            connection.read_response()  # type: ignore[attr-defined]
        except NoPermissionError as error:
            yield right_named_by(error)


def right_named_by(error: NoPermissionError) -> str:
    """Return the rule of `ACL SETUSER` whose lack made Redis refuse a command."""
    text = str(error)
    if "channel" in text:
        return "&*"
    if "key" in text and "command" not in text:
        return "~*"
    command = re.search(r"the '([\w|]+)' command", text)
    return f"+{command[1].lower()}" if command else "+@all"
