"""Publishes a reply while it is generated, on Redis channels, for web chats that show it grow.

delta* ─▶ final      the reply is stored, this is its text
delta* ─▶ reset      discard the text of this turn: the call failed, another one may follow

Best effort. Nothing here raises, and nothing keeps a turn waiting for more than about a second:
Redis gets half a second for each step, and no call at all for a while after one that failed. (The
lookup of its name has the resolver's own timeout.)
"""

import json
import threading
import time
from collections.abc import Callable
from uuid import UUID, uuid5

from message_worker_client.redis_client import redis_client
from worker.domain.messages import ChannelAddress
from worker.observability.logs import log

PREFIX = "worker:live:"
VERSION = 1
PAUSE_S = 15.0
"""Pause in publishing after a failure."""
INTERVAL_S = 0.05
"""Shortest time between two documents of a reply; text that comes meanwhile goes into the next one.
Nobody can read more than twenty a second, and a slow Redis would delay a turn by each of them."""
_TIMEOUT_S = 0.5
_CONNECTIONS = 16


def topic(namespace: UUID, who: ChannelAddress) -> str:
    """Return the name of a channel user's Redis channel, which hides their address.

    The hashed name is compact JSON in UTF-8, so that frontends in other languages find it too.
    """
    # Hashed: everybody who may list Redis's channels would read addresses otherwise.
    parts = [who.channel, who.recipient, who.address, who.thread]
    name = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return f"{PREFIX}{uuid5(namespace, name)}"


class LiveReplies:
    """One for all threads of a process. Connects with the first text."""

    def __init__(
        self,
        url: str,
        *,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.interval_s = interval_s
        self.clock = clock
        self._redis = redis_client(
            url,
            timeout_s=_TIMEOUT_S,
            max_connections=_CONNECTIONS,
            timeout=_TIMEOUT_S,
            socket_keepalive=True,
            # No CLIENT SETINFO, RESP2: each step more could time out within a turn.
            protocol=2,
            driver_info=None,
        )
        self._lock = threading.Lock()
        self._paused_until = float("-inf")

    def publish(self, topic: str, document: dict[str, object]) -> None:
        """Publish one document, or drop it if Redis does not answer."""
        # Read without the lock: at worst one more call fails.
        if self.clock() < self._paused_until:
            return
        body = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        try:
            self._redis.publish(topic, body.encode("utf-8", "replace"))
        except Exception as error:  # noqa: BLE001 whatever it is, the turn goes on
            self._pause(type(error).__name__)

    def _pause(self, error: str) -> None:
        # Many threads fail at once: one of them starts the pause and logs it.
        with self._lock:
            now = self.clock()
            if now < self._paused_until:
                return
            self._paused_until = now + PAUSE_S
        log.warning("live.paused", error=error, pause_s=PAUSE_S)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


class LiveReply:
    """The text of one call, for the thread that makes it."""

    def __init__(self, live: LiveReplies, topic: str, *, turn: int, attempt: int) -> None:
        """`attempt`: which call of the turn, from 0."""
        self._live = live
        self._topic = topic
        self._about = {"version": VERSION, "turn": turn, "attempt": attempt}
        self._held: list[str] = []
        self._number = 0
        self._next_at = float("-inf")

    def text(self, delta: str) -> None:
        """Publish the next piece, now or together with those that follow."""
        self._held.append(delta)
        if self._live.clock() >= self._next_at:
            self._publish(type="delta", number=self._number, text="".join(self._held))
            self._held.clear()
            self._number += 1  # also for a lost one: a listener sees the gap
            self._next_at = self._live.clock() + self._live.interval_s

    def reset(self) -> None:
        """Make frontends discard the text of this turn."""
        self._publish(type="reset")

    def done(self, text: str) -> None:
        """Publish the whole reply, once it is stored."""
        self._publish(type="final", text=text)

    def _publish(self, **fields: object) -> None:
        self._live.publish(self._topic, {**self._about, **fields})
