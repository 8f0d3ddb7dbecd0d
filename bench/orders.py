"""What a producer is told to publish: an order, its messages and their times.

    order   {"broker_url": ..., "first": 1000, "count": 400, "users": 5000, "rate": null, "seed": 7}
    answer  [wall-clock seconds of each publish]

`rate` null = as fast as possible; otherwise arrivals are random at that mean rate (Poisson),
the same for the same seed. It never waits for the worker, so late messages stay late (no
coordinated omission).
"""

import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

OUR_NUMBER, PHONES = "+13125550100", "+1773"
WORDS = ("thanks", "when", "will", "my", "order", "arrive", "I", "moved", "last", "week", "please")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The messages to publish, and their rate."""

    broker_url: str
    first: int
    count: int
    users: int
    """Message n belongs to user n modulo this: no user has two messages waiting in one round."""
    seed: int
    rate: float | None = None
    list_size: int = 1
    """Messages in one task; all of one have the time of the last."""
    phones: bool = False
    """The users have telephone numbers, and write to `OUR_NUMBER`."""


def phone(user: int) -> str:
    """Return a user's number, in a block with nine others.

    Thousands of one block would be one sender, whose turns beyond twenty are surplus and wait.
    """
    return f"{PHONES}{user:04}000"


def envelope(number: int, order: Order, dice: random.Random) -> dict[str, object]:
    """Return message `number`: ten to forty words, and the number as its id."""
    words = dice.choices(WORDS, k=dice.randint(10, 40))
    user = number % order.users
    to = {"recipient": OUR_NUMBER} if order.phones else {}
    return {
        "version": 1,
        "channel": "web",
        **to,
        "user": phone(user) if order.phones else f"u{user}",
        "message_id": f"m-{number}",
        "text": f"#{number} {' '.join(words)}",
    }


def envelopes(order: Order) -> list[dict[str, object]]:
    """Return all messages of an order."""
    dice = random.Random(f"texts {order.seed}")  # noqa: S311 - a seeded play, no secret
    numbers = range(order.first, order.first + order.count)
    return [envelope(number, order, dice) for number in numbers]


def arrivals(order: Order) -> Iterator[float]:
    """Return the second of each publish, counted from the start."""
    dice = random.Random(f"arrivals {order.seed}")  # noqa: S311
    if order.rate is None:
        return iter([0.0] * order.count)
    return accumulate(dice.expovariate(order.rate) for _ in range(order.count))


def serve(publish: Callable[[Order], list[float]]) -> None:
    """Read an order on each line, publish, print the times."""
    for line in sys.stdin:
        print(json.dumps(publish(Order(**json.loads(line)))), flush=True)
