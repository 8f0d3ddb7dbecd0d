"""Finds messages on a queue that no worker takes: its sender forgot `queue=`, or misspelt it.

Celery sends a task without a queue to `celery`. Whatever the name, kombu notes each queue that it
declares under `_kombu.binding.*`. Such a queue may be another program's, so only entries of the
task `messages.receive` count.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

from redis import Redis
from redis.exceptions import NoPermissionError

from message_worker_client.broker_url import read_broker_url
from message_worker_client.envelope.wire import RECEIVE
from worker.queue.broker import QUEUES, is_amqp
from worker.queue.waiting import PRIORITIES, counting_client, unconsumed_entries

_DEFAULT: Final = "celery"
"""Where Celery sends a task without a queue."""
_BINDINGS: Final = "_kombu.binding.*"
_SEPARATOR: Final = "\x06\x16"
MARK: Final = f'"task": "{RECEIVE}"'
"""In the bytes of every message's entry, as Celery writes them."""
_MOST_QUEUES: Final = 100
_SCAN_S: Final = 1.0
"""Redis has no index of keys: one that holds millions of others is looked through in part."""
# On the server: an entry may have megabytes, and the first and the last ones tell enough.
_COUNT: Final = """
if redis.call('TYPE', KEYS[1]).ok ~= 'list' then return 0 end
local length = redis.call('LLEN', KEYS[1])
local looked, found = math.min(length, 20), 0
for number = 0, looked - 1 do
    local place = number < 10 and number or number - looked
    local entry = redis.call('LINDEX', KEYS[1], place)
    if string.find(entry, ARGV[1], 1, true) then found = found + 1 end
end
return found == looked and length or found
"""


def misplaced_entries(url: str) -> Mapping[str, int]:
    """Count messages by the queue that no worker takes. Raises `BrokerAwayError`.

    Of a queue with entries of other tasks, too, only those among the first and last ten count.
    On RabbitMQ, which has no list of queues, only the queue `celery` is looked at.
    """
    if is_amqp(url):
        counts = {_DEFAULT: unconsumed_entries(url, _DEFAULT)}
    else:
        with counting_client(url) as client:
            count, prefix = client.register_script(_COUNT), read_broker_url(url).prefix
            names = sorted(_queues(client, prefix))
            counts = {name: _count(count, prefix + name) for name in names}
    return {name: number for name, number in counts.items() if number}


def _count(count: Any, queue: str) -> int:  # noqa: ANN401 - redis-py's script
    return sum(int(count(keys=[queue + priority], args=[MARK])) for priority in PRIORITIES)


def _queues(client: Redis, prefix: str) -> set[str]:
    """Return the names of all queues that some program has declared, but ours."""
    names, cursor, until = {_DEFAULT}, 0, time.monotonic() + _SCAN_S
    try:
        while len(names) < _MOST_QUEUES and time.monotonic() < until:
            cursor, keys = client.scan(cursor, match=prefix + _BINDINGS, count=1000, _type="set")
            for key in keys:
                bindings: set[bytes] = client.smembers(key)  # type: ignore[assignment]
                ends = (one.decode(errors="replace").rpartition(_SEPARATOR)[2] for one in bindings)
                names.update(ends)
            if cursor == 0:
                break
    except NoPermissionError:
        pass  # of other keys; `celery` and what has been found are looked at
    return {name for name in names if not name.endswith(".pidbox")} - set(QUEUES)
