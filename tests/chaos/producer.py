"""The producers: at least once, by several ways, until the message is in Postgres.

A publish is repeated until the other side has confirmed it. Redis may lose what it confirmed, and
accepted means committed to Postgres: so a message without a row is sent again after a while, under
the same `message_id`.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from redis import Redis
from redis.exceptions import RedisError

from tests.chaos.load import Group, Written, bad_envelopes
from tests.chaos.parts import Looker
from tests.chaos.ways import Way

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

    def is_due(self, now: float) -> bool:
        return self.copies_left > 0 or now - self.last_at > RESEND_AFTER_S


@dataclass
class Producer:
    """One thread calls `step` again and again."""

    plan: Mapping[str, Sequence[Group]]
    way: Way | None
    """None = a way that takes one at a time, see `_publish`."""
    looker: Looker
    past_proxy: Redis
    rude: bool = False
    """Whether it sends what no worker takes, too."""
    began: float = field(default_factory=time.monotonic)
    accepted: set[str] = field(default_factory=set)
    """Ids of messages that have a row."""
    resent: set[str] = field(default_factory=set)
    """Ids of messages that were sent again because they had none."""
    publishes: int = 0
    bad: int = 0
    _next: dict[str, int] = field(default_factory=dict)
    _waiting: dict[str, _Sent] = field(default_factory=dict)
    _open: dict[str, set[str]] = field(default_factory=dict)
    _looked: float = 0.0

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
        self._send([sent for sent in self._waiting.values() if sent.is_due(now)])
        if self.rude and now - self.began > (self.bad + 1) * _BAD_EVERY_S:
            self._send_bad()

    def close(self) -> None:
        if self.way is not None:
            self.way.close()

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

    def _send(self, due: Sequence[_Sent]) -> None:
        """Publish what is due; the rest stays due if the other side is away."""
        wanted = [sent for sent in due for _ in range(sent.copies_left or 1)]
        confirmed = self._publish([sent.envelope for sent in wanted])
        now = time.monotonic()
        for sent in wanted[:confirmed]:
            if sent.copies_left:
                sent.copies_left -= 1
            else:
                self.resent.add(sent.message.message_id)
            sent.last_at = now
        if confirmed < len(wanted):
            time.sleep(PAUSE_S)

    def _send_bad(self) -> None:
        """What a broken producer does. It may get lost, so nobody waits for it."""
        number = self.bad
        self.bad += 1
        if number % 3 < 2:
            self._publish([self._bad[number % len(self._bad)]])
            return
        with suppress(RedisError):
            self.past_proxy.lpush("inbound", _BAD_BYTES[number // 3 % len(_BAD_BYTES)])

    def _publish(self, envelopes: Sequence[dict[str, object]]) -> int:
        """Return how many from the first on are confirmed."""
        if not envelopes or self.way is None:
            return 0
        confirmed = self.way.publish(envelopes)
        self.publishes += confirmed
        return confirmed


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
