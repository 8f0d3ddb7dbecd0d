"""Text while it is made: published to Redis channels, for web chats that show a reply as it grows.

delta* ─▶ final      the reply is stored, this is it
delta* ─▶ reset      forget what came of this turn: the call failed, another one may follow

A show beside the real thing. Nothing here raises, and nothing keeps a turn waiting for more than
about a second: Redis gets half a second for each step, and no call at all for a while after one
that failed. (The lookup of its name has the resolver's own timeout.)
"""

import json
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid5

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import BlockingConnectionPool, parse_url
from redis.retry import Retry

from worker.domain.messages import ChannelAddress
from worker.observability.logs import log

PREFIX = "worker:live:"
VERSION = 1
PAUSE_S = 15.0
"""Nothing is published for so long after a failure."""
INTERVAL_S = 0.05
"""At most one document in so much time for each reply; what comes meanwhile goes with the next.
More than twenty a second nobody can read, and a slow Redis would delay a turn by each of them."""
_TIMEOUT_S = 0.5
_CONNECTIONS = 16


def topic(namespace: UUID, who: ChannelAddress) -> str:
    """Name the Redis channel of a channel user, without saying who that is.

    The hashed name is compact JSON in UTF-8, so that frontends in other languages find it too.
    """
    parts = [who.channel, who.recipient, who.address, who.thread]
    name = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return f"{PREFIX}{uuid5(namespace, name)}"


class LiveReplies:
    """One for all threads of a process. Connects with the first text."""

    def __init__(
        self,
        url: str,
        *,
        pause_s: float = PAUSE_S,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.interval_s = interval_s
        self.clock = clock
        # What the URL says about timeouts is meant for Celery.
        options: dict[str, Any] = {
            **parse_url(url),  # type: ignore[no-untyped-call]
            "max_connections": _CONNECTIONS,
            "timeout": _TIMEOUT_S,
            "socket_timeout": _TIMEOUT_S,
            "socket_connect_timeout": _TIMEOUT_S,
            "socket_keepalive": True,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,  # a connection begins with fewer questions, each of which may time out
            "driver_info": None,
        }
        self._pool = BlockingConnectionPool(**options)  # type: ignore[no-untyped-call]
        self._redis = Redis(connection_pool=self._pool)
        self._pause_s = pause_s
        self._lock = threading.Lock()
        self._paused_until = float("-inf")

    def begin(self, topic: str, turn: int, attempt: int) -> "LiveReply":
        """Give what one call's text goes into. `attempt`: which call of the turn, from 0 up."""
        return LiveReply(self, topic, turn=turn, attempt=attempt)

    def publish(self, topic: str, document: dict[str, object]) -> None:
        """Publish one document, or drop it where Redis is away."""
        if self.clock() < self._paused_until:
            return
        body = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        try:
            self._redis.publish(topic, body.encode("utf-8", "replace"))
        except Exception as error:  # noqa: BLE001 whatever it is, the turn goes on
            self._pause(type(error).__name__)

    def _pause(self, error: str) -> None:
        with self._lock:
            now = self.clock()
            if now < self._paused_until:
                return
            self._paused_until = now + self._pause_s
        log.warning("live.paused", error=error, pause_s=self._pause_s)

    def close(self) -> None:
        """Hang up."""
        self._pool.disconnect()


class LiveReply:
    """The text of one call, for the thread that makes it. After `reset` or `done` it is over."""

    def __init__(self, live: LiveReplies, topic: str, *, turn: int, attempt: int) -> None:
        self._live = live
        self._topic = topic
        self._about = {"version": VERSION, "turn": turn, "attempt": attempt}
        self._held: list[str] = []
        self._number = 0
        self._next_at = float("-inf")
        self._over = False

    def text(self, delta: str) -> None:
        """Publish the next piece, now or together with those that follow."""
        if self._over:
            return
        self._held.append(delta)
        if self._live.clock() >= self._next_at:
            self._publish(type="delta", number=self._number, text="".join(self._held))
            self._held.clear()
            self._number += 1  # also of a lost one: who listens sees the gap
            self._next_at = self._live.clock() + self._live.interval_s

    def reset(self) -> None:
        """Let frontends forget what they show of this turn."""
        self._end(type="reset")

    def done(self, text: str) -> None:
        """Tell frontends the reply, once it is stored."""
        self._end(type="final", text=text)

    def _end(self, **fields: object) -> None:
        if not self._over:
            self._over = True
            self._publish(**fields)

    def _publish(self, **fields: object) -> None:
        self._live.publish(self._topic, {**self._about, **fields})
