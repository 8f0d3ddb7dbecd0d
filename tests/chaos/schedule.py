"""Which fault comes when: a pure function of the seed.

Faults are dealt like cards, so that in every minute or so each kind comes once, in another order.
Nothing is hit again before it has healed.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

FIRST_S = 5.0
"""Before the first fault, so that there is something to break."""
LAST_S = 6.0
"""Between the last fault and the end."""
GAP_S = (1.2, 3.6)
GATEWAY_GAP_S = (10.0, 25.0)


class Kind(StrEnum):
    """What can be done to the parts; `Telnyx` itself has faults of its own all the time."""

    KILL_WORKER = "kill_worker"
    FREEZE_WORKER = "freeze_worker"
    FREEZE_PAST_LEASE = "freeze_past_lease"
    ROLL_WORKER = "roll_worker"
    KILL_REDIS = "kill_redis"
    FLUSH_REDIS = "flush_redis"
    HOLE_REDIS = "hole_redis"
    RESET_REDIS = "reset_redis"
    REFUSE_REDIS = "refuse_redis"
    KILL_POSTGRES = "kill_postgres"
    RESET_POSTGRES = "reset_postgres"
    REFUSE_POSTGRES = "refuse_postgres"
    DROP_POSTGRES_ANSWERS = "drop_postgres_answers"
    LOSE_COMMITS = "lose_commits"
    READ_ONLY_POSTGRES = "read_only_postgres"
    FAIL_OVER = "fail_over"
    JUMP_CLOCK = "jump_clock"
    TERMINATE_BACKENDS = "terminate_backends"
    HOLD_ROWS = "hold_rows"
    KILL_TELNYX = "kill_telnyx"
    WRONG_KEY = "wrong_key"
    WITHDRAW_MODEL = "withdraw_model"
    STALE_READS = "stale_reads"
    POISON_THREADS = "poison_threads"
    KILL_GATEWAY = "kill_gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nature:
    """How long a kind lasts, and what it makes ill."""

    parts: tuple[str, ...]
    """`worker` = one of them."""
    lasts_s: tuple[float, float] = (0.0, 0.0)
    rest_s: float = 2.0
    """Before the same part is hit again."""


_WORKER, _REDIS, _POSTGRES, _TELNYX = ("worker",), ("redis",), ("postgres",), ("telnyx",)
NATURES: Mapping[Kind, Nature] = {
    Kind.KILL_WORKER: Nature(parts=_WORKER, rest_s=6.0),
    # Three heartbeats are missed, so others take over; the lease itself has not ended.
    Kind.FREEZE_WORKER: Nature(parts=_WORKER, lasts_s=(2.5, 6.5)),
    # Four more seconds, then Telnyx's connections are reset, see `hurts.py`.
    Kind.FREEZE_PAST_LEASE: Nature(parts=("worker", "telnyx"), lasts_s=(5.5, 6.7), rest_s=6.0),
    Kind.ROLL_WORKER: Nature(parts=_WORKER, lasts_s=(4.0, 4.0), rest_s=6.0),
    Kind.KILL_REDIS: Nature(parts=_REDIS, lasts_s=(0.3, 3.0)),
    Kind.FLUSH_REDIS: Nature(parts=_REDIS, lasts_s=(0.8, 1.4)),
    Kind.HOLE_REDIS: Nature(parts=_REDIS, lasts_s=(2.0, 6.0)),
    Kind.RESET_REDIS: Nature(parts=_REDIS),
    Kind.REFUSE_REDIS: Nature(parts=_REDIS, lasts_s=(1.0, 4.0)),
    Kind.KILL_POSTGRES: Nature(parts=_POSTGRES, lasts_s=(0.2, 2.0), rest_s=4.0),
    Kind.RESET_POSTGRES: Nature(parts=_POSTGRES),
    Kind.REFUSE_POSTGRES: Nature(parts=_POSTGRES, lasts_s=(0.5, 3.0)),
    Kind.DROP_POSTGRES_ANSWERS: Nature(parts=_POSTGRES, lasts_s=(0.5, 2.5)),
    Kind.LOSE_COMMITS: Nature(parts=_POSTGRES, lasts_s=(2.0, 4.0)),
    Kind.READ_ONLY_POSTGRES: Nature(parts=_POSTGRES, lasts_s=(0.5, 3.0)),
    # With the copy that becomes the next standby.
    Kind.FAIL_OVER: Nature(parts=_POSTGRES, lasts_s=(0.5, 3.0), rest_s=6.0),
    Kind.JUMP_CLOCK: Nature(parts=_POSTGRES),
    Kind.TERMINATE_BACKENDS: Nature(parts=_POSTGRES),
    Kind.HOLD_ROWS: Nature(parts=_POSTGRES, lasts_s=(2.0, 2.0)),
    Kind.KILL_TELNYX: Nature(parts=_TELNYX, lasts_s=(0.2, 2.0), rest_s=4.0),
    Kind.WRONG_KEY: Nature(parts=_TELNYX, lasts_s=(2.0, 4.0), rest_s=6.0),
    Kind.WITHDRAW_MODEL: Nature(parts=_TELNYX, lasts_s=(4.0, 7.0), rest_s=4.0),
    Kind.STALE_READS: Nature(parts=_TELNYX, lasts_s=(3.0, 6.0)),
    Kind.POISON_THREADS: Nature(parts=_TELNYX),
    Kind.KILL_GATEWAY: Nature(parts=("gateway",), lasts_s=(0.2, 2.0), rest_s=4.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One fault."""

    at_s: float
    """Since the campaign began."""
    kind: Kind
    lasts_s: float
    target: int
    """Which worker, model, ... is meant; the meaning is the kind's."""

    def __str__(self) -> str:
        return f"{self.at_s:6.1f} s {self.kind} {self.target} for {self.lasts_s:.1f} s"


def schedule(*, seed: int, length_s: float, workers: int) -> tuple[Planned, ...]:
    """Plan the faults of a campaign, in order of time. The same arguments give the same plan."""
    dice = random.Random(f"schedule {seed}")  # noqa: S311 - a seeded play, no secret
    free_at: dict[str, float] = {}
    deck: list[Kind] = []
    planned = []
    for at_s in _moments(dice, length_s):
        if not deck:
            deck = [kind for kind in Kind if kind is not Kind.KILL_GATEWAY]
            dice.shuffle(deck)
        target = dice.randrange(workers)
        for place, kind in enumerate(deck):
            nature = NATURES[kind]
            parts = [f"worker {target}" if part == "worker" else part for part in nature.parts]
            if all(free_at.get(part, 0.0) <= at_s for part in parts):
                del deck[place]
                lasts_s = min(dice.uniform(*nature.lasts_s), length_s - at_s)
                planned.append(Planned(at_s=at_s, kind=kind, lasts_s=lasts_s, target=target))
                free_at |= dict.fromkeys(parts, at_s + lasts_s + nature.rest_s)
                break
    return tuple(sorted([*planned, *_gateway(seed, length_s)], key=lambda one: one.at_s))


def _gateway(seed: int, length_s: float) -> Iterator[Planned]:
    """Plan by dice of its own: no other part depends on the gateway."""
    dice = random.Random(f"gateway {seed}")  # noqa: S311 - a seeded play, no secret
    kind, at_s = Kind.KILL_GATEWAY, FIRST_S
    while (at_s := at_s + dice.uniform(*GATEWAY_GAP_S)) < length_s - LAST_S:
        lasts_s = dice.uniform(*NATURES[kind].lasts_s)
        yield Planned(at_s=at_s, kind=kind, lasts_s=lasts_s, target=0)


def _moments(dice: random.Random, length_s: float) -> Iterator[float]:
    at_s = FIRST_S
    while at_s < length_s - LAST_S:
        yield at_s
        at_s += dice.uniform(*GAP_S)
