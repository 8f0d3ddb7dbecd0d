"""What is written by whom and when: a pure function of the seed.

Each user writes groups of messages. A group is sent when all of the one before are accepted, so at
Telnyx the groups of a user must rise strictly, whatever the broker did to their entries; within a
group, which is a burst, any order of acceptance is right.
"""

import json
import random
from dataclasses import dataclass

from tests.chaos.mix import MAILS_AN_HOUR, MODELS, TOOL_CHANNEL

USERS = 200
CHANNELS = tuple(MODELS)
WAYS = ("celery", "lists", "sql", "rabbitmq")
"""See `ways.py`; text messages and mails come to the gateway instead."""


def way_of(user: str) -> str:
    """Name the way in of a user: each is that of people on each channel."""
    return WAYS[int(user[1:]) // len(CHANNELS) % len(WAYS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One message."""

    user: str
    channel: str
    number: int
    """Counts the user's messages from 1."""
    copies: int
    """How often it is queued at first."""
    dated: bool
    """Whether it carries `sent_at`, as all of its user's do: another clock is another order."""

    @property
    def address(self) -> str:
        """The user, as the channel knows them."""
        by_channel = {"sms": f"+1312555{int(self.user[1:]):04}", "mail": f"{self.user}@x.example"}
        return by_channel.get(self.channel, self.user)

    @property
    def message_id(self) -> str:
        name = f"m-{self.user}-{self.number}"
        return f"<{name}@x.example>" if self.channel == "mail" else name

    @property
    def text(self) -> str:
        """Unique: whose and which. Some make the model ask for a tool, which notes them."""
        name = f"{self.user} #{self.number}"
        if self.channel != TOOL_CHANNEL or self.number % 3:
            return name
        return f"{name} tool:note {json.dumps({'text': name})}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What a user writes at one moment."""

    at_s: float
    messages: tuple[Written, ...]


def load(*, seed: int, length_s: float, messages: int) -> dict[str, tuple[Group, ...]]:
    """Plan at least so many messages, by user; the last comes some seconds before the end."""
    dice = random.Random(f"load {seed}")  # noqa: S311 - a seeded play, no secret
    numbers = dict.fromkeys((f"u{n}" for n in range(1, USERS + 1)), 0)
    groups: dict[str, list[Group]] = {user: [] for user in numbers}
    dated = {user for user in numbers if dice.random() < 0.2}
    planned = 0
    while planned < messages:
        user = dice.choice(list(numbers))
        channel = CHANNELS[int(user[1:]) % len(CHANNELS)]
        size = dice.choice((1, 1, 1, 1, 1, 2, 3))
        if channel == "mail" and numbers[user] + size > MAILS_AN_HOUR:
            continue
        written = []
        for _ in range(size):
            numbers[user] += 1
            written.append(
                Written(
                    user=user,
                    channel=channel,
                    number=numbers[user],
                    copies=dice.choice((1,) * 17 + (2, 2, 3)),
                    dated=user in dated,
                )
            )
        groups[user].append(Group(at_s=0.0, messages=tuple(written)))
        planned += size
    latest_s = max(length_s - 8.0, 1.0)
    return {
        user: tuple(
            Group(at_s=at_s, messages=group.messages)
            for at_s, group in zip(
                sorted(dice.uniform(0.0, latest_s) for _ in theirs), theirs, strict=True
            )
        )
        for user, theirs in groups.items()
        if theirs
    }


def bad_envelopes() -> tuple[dict[str, object], ...]:
    """Give what every producer gets wrong some day; none of it is ever a message."""
    good: dict[str, object] = {"channel": "web", "user": "u0", "message_id": "bad", "text": "bad"}
    return (
        {**good, "version": 7},
        {"version": 1, "channel": "web", "user": "u0", "text": "no id"},
        {**good, "version": 1, "agent": "nobody"},
        {**good, "version": 1, "channel": "Not A Slug"},
    )
