"""Where replies arrive: a queue of Celery and a web server, into lists that are kept.

The queue is emptied again and again, and by a FLUSHALL. The web server keeps what it
took, whatever becomes of Redis. They know the idempotency keys, as a consumer must: a key that it
has seen is a repetition.
"""

import base64
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from kombu import Connection
from redis import Redis
from redis.exceptions import RedisError

from tests.chaos.mix import OUTBOUND
from tests.support.oracle import Delivered
from tests.support.receiver import Posted

_BATCH = 200


@dataclass
class Sink:
    """One thread calls `drain` again and again."""

    past_proxy: Redis
    taken: list[dict[str, Any]] = field(default_factory=list)
    """Replies by first arrival."""
    unordered: list[dict[str, Any]] = field(default_factory=list)
    repetitions: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while somebody empties the queue, FLUSHALL too."""
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
            self._note(reply_in(entry), self.taken)

    def take_posted(self, posted: Iterable[Posted], *, were_told: Sequence[int]) -> None:
        """Note what came by webhook, in its order. One that was told 500 comes again."""
        for one, status in zip(posted, were_told, strict=False):
            if status == HTTPStatus.OK:
                self._note(one.body, self.taken)

    def take_from_rabbitmq(self, url: str) -> None:
        """Note what the worker on RabbitMQ has delivered there; nobody knows its order."""
        with Connection(url) as connection, connection.channel() as one:
            while (message := one.basic_get(OUTBOUND, no_ack=True)) is not None:
                self._note(json.loads(message.body)[1]["reply"], self.unordered)

    def _note(self, reply: dict[str, Any], where: list[dict[str, Any]]) -> None:
        if reply["idempotency_key"] in self._seen:
            self.repetitions += 1
            return
        self._seen.add(reply["idempotency_key"])
        where.append(reply)

    def delivered(self, deliveries: Iterable[Mapping[str, Any]]) -> list[Delivered]:
        """Name the deliveries by their keys; one that nobody knows gets the number 0."""
        known = {str(row["idempotency_key"]): row for row in deliveries}
        nobody = {"id": 0, "channel_user_id": 0}

        def named(reply: dict[str, Any]) -> Delivered:
            row = known.get(reply["idempotency_key"], nobody)
            return Delivered(
                user_id=row["channel_user_id"],
                delivery_id=row["id"],
                key=reply["idempotency_key"],
                text=reply["text"],
            )

        found = [named(reply) for reply in self.taken]
        for one in sorted(map(named, self.unordered), key=lambda it: it.delivery_id):
            later = (
                place
                for place, other in enumerate(found)
                if other.user_id == one.user_id and other.delivery_id > one.delivery_id
            )
            found.insert(next(later, len(found)), one)
        return found


def reply_in(entry: bytes) -> dict[str, Any]:
    """Read the reply out of a queue entry of kombu."""
    body = json.loads(base64.b64decode(json.loads(entry)["body"]))
    reply: dict[str, Any] = body[1]["reply"]
    return reply
