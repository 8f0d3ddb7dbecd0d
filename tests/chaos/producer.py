"""The producers: plain Celery, at least once, until the message is in Postgres.

A publish is repeated until Redis has confirmed it. Redis may lose what it confirmed, and accepted
means committed to Postgres: so a message without a row is sent again after a while, under the same
`message_id`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

from tests.chaos.load import Group, Written, bad_envelopes
from tests.chaos.parts import Looker

RESEND_AFTER_S = 8.0
_LOOK_EVERY_S = 0.5
PAUSE_S = 0.3
"""After a publish that failed."""
_BAD_EVERY_S = 2.0
_HOSTILE_BYTES = 200_000
_BAD_BYTES = (
    b"not a message",
    b'{"body": "W10=", "headers": {}, "properties": {}}',
    # A hostile one: nested for ever, quotes that a careless reader scans again and again, bulk.
    b"[" * _HOSTILE_BYTES,
    b"[" * 70 + b'"' + b'\\"' * (_HOSTILE_BYTES // 100),
    b'{"body": "' + b"A" * _HOSTILE_BYTES + b'", "headers": {"compression": "zlib"}}',
)


@dataclass
class _Sent:
    message: Written
    envelope: dict[str, object]
    copies_left: int
    last_at: float = 0.0


@dataclass
class Producer:
    """One thread calls `step` again and again."""

    plan: Mapping[str, Sequence[Group]]
    broker_url: str
    looker: Looker
    past_proxy: Redis
    began: float = field(default_factory=time.monotonic)
    accepted: set[str] = field(default_factory=set)
    """Ids of messages that have a row."""
    resent: set[str] = field(default_factory=set)
    """Ids of messages that were sent again because they had none."""
    publishes: int = 0
    failed_publishes: int = 0
    bad: int = 0
    _next: dict[str, int] = field(default_factory=dict)
    _waiting: dict[str, _Sent] = field(default_factory=dict)
    _open: dict[str, set[str]] = field(default_factory=dict)
    _looked: float = 0.0
    _app: Celery | None = None

    def __post_init__(self) -> None:
        self._next = dict.fromkeys(self.plan, 0)
        self._open = {user: set() for user in self.plan}
        self._bad = list(bad_envelopes())

    @property
    def planned(self) -> int:
        return sum(len(group.messages) for groups in self.plan.values() for group in groups)

    @property
    def is_done(self) -> bool:
        """Whether every message of the plan has a row."""
        return len(self.accepted) == self.planned

    def step(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if now - self._looked > _LOOK_EVERY_S:
            self._look()
            self._looked = now
        for user, groups in self.plan.items():
            place = self._next[user]
            if self._open[user] or place == len(groups) or groups[place].at_s > now - self.began:
                continue
            self._next[user] += 1
            for message in groups[place].messages:
                sent = _Sent(message, _envelope(message), message.copies)
                self._waiting[message.message_id] = sent
                self._open[user].add(message.message_id)
        for sent in list(self._waiting.values()):
            if not self._send(sent):
                break
        if now - self.began > (self.bad + 1) * _BAD_EVERY_S:
            self._send_bad()

    def close(self) -> None:
        if self._app is not None:
            self._app.close()
            self._app = None

    def _look(self) -> None:
        ids = list(self._waiting)
        if not ids:
            return
        found = self.looker.rows("SELECT message_id FROM messages WHERE message_id = ANY(%s)", ids)
        for row in found:
            sent = self._waiting[row["message_id"]]
            if sent.copies_left:
                continue
            del self._waiting[row["message_id"]]
            self.accepted.add(row["message_id"])
            self._open[sent.message.user].discard(row["message_id"])

    def _send(self, sent: _Sent) -> bool:
        """Publish what is due of a message; False = the broker is away."""
        while sent.copies_left:
            if not self._publish(sent.envelope):
                return False
            sent.copies_left -= 1
            sent.last_at = time.monotonic()
        if time.monotonic() - sent.last_at > RESEND_AFTER_S:
            if not self._publish(sent.envelope):
                return False
            sent.last_at = time.monotonic()
            self.resent.add(sent.message.message_id)
        return True

    def _send_bad(self) -> None:
        """What a broken producer does. It may get lost, so nobody waits for it."""
        number = self.bad
        self.bad += 1
        if number % 3 < 2:
            self._publish(self._bad[number % len(self._bad)])
            return
        try:
            self.past_proxy.lpush("inbound", _BAD_BYTES[number // 3 % len(_BAD_BYTES)])
        except RedisError:
            self.failed_publishes += 1

    def _publish(self, envelope: dict[str, object]) -> bool:
        try:
            if self._app is None:
                self._app = _producer_app(self.broker_url)
            with self._app.producer_pool.acquire(block=True) as producer:
                self._app.send_task(
                    "messages.receive",
                    kwargs={"envelope": envelope},
                    queue="inbound",
                    producer=producer,
                )
        except (OperationalError, RedisError, OSError):
            self.failed_publishes += 1
            self.close()
            time.sleep(PAUSE_S)
            return False
        self.publishes += 1
        return True


def _envelope(message: Written) -> dict[str, object]:
    dated = {"sent_at": datetime.now(UTC).isoformat()} if message.dated else {}
    return {
        "version": 1,
        "channel": message.channel,
        "user": message.address,
        "message_id": message.message_id,
        "text": message.text,
        **dated,
    }


def _producer_app(broker_url: str) -> Celery:
    app = Celery("producer", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_publish_retry=False,
        broker_transport_options={"socket_timeout": 2, "socket_connect_timeout": 1},
    )
    return app
