"""Where replies are handed over: the producer's own queue, emptied into a list that is kept.

It knows the idempotency keys, as a consumer must: a key that it has seen is a repetition.
"""

import base64
import json
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.chaos.mix import OUTBOUND
from tests.support.oracle import Delivered

_BATCH = 200


@dataclass
class Sink:
    """One thread calls `drain` again and again."""

    past_proxy: Redis
    taken: list[dict[str, Any]] = field(default_factory=list)
    """Replies by first arrival."""
    repetitions: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held by whoever empties the queue, FLUSHALL too."""
    _seen: set[str] = field(default_factory=set)

    def drain(self) -> None:
        """Take what is there; read first and cut off afterwards, so that nothing gets lost."""
        with self.lock, suppress(RedisError):
            entries = self.past_proxy.lrange(OUTBOUND, -_BATCH, -1)
            self.take(reversed(entries))
            if entries:
                self.past_proxy.ltrim(OUTBOUND, 0, -len(entries) - 1)

    def take(self, entries: Iterable[bytes]) -> None:
        """Note the replies in these entries, oldest first."""
        for entry in entries:
            reply = reply_in(entry)
            if reply["idempotency_key"] in self._seen:
                self.repetitions += 1
                continue
            self._seen.add(reply["idempotency_key"])
            self.taken.append(reply)

    def delivered(self, deliveries: Iterable[Mapping[str, Any]]) -> list[Delivered]:
        """Name the deliveries by their keys; one that nobody knows gets the number 0."""
        known = {str(row["idempotency_key"]): row for row in deliveries}
        nobody = {"id": 0, "channel_user_id": 0}
        return [
            Delivered(
                user_id=row["channel_user_id"],
                delivery_id=row["id"],
                key=reply["idempotency_key"],
                text=reply["text"],
            )
            for reply in self.taken
            for row in [known.get(reply["idempotency_key"], nobody)]
        ]


def reply_in(entry: bytes) -> dict[str, Any]:
    """Read the reply out of a queue entry of kombu."""
    body = json.loads(base64.b64decode(json.loads(entry)["body"]))
    reply: dict[str, Any] = body[1]["reply"]
    return reply
