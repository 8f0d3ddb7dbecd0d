"""Feeds one kind of input after the other to the service, from a seed, and watches what it costs.

Each input has a number, and depends on that and the seed alone:

    make fuzz N=200000 SEED=7                      every kind, ten times what the CI does
    make fuzz KIND=control SEED=7 FIRST=4711 N=1   the one input that a failure names
"""

import os
import resource
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random
from typing import Protocol

TOTAL = int(os.environ.get("FUZZ_N", "20000"))
"""Inputs of all kinds together."""
SEED = os.environ.get("FUZZ_SEED", "1")
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))
WAIT_S = 1.0
"""The longest that a batch may compute: so long may others have to wait."""
MEMORY_MB = 96
"""How much the process may grow, with everything that it keeps of what it has read."""
WARM_UP = 200


class Kind(Protocol):
    """One kind of input, and the part of the service that reads it."""

    share: float
    """The part of all inputs that are of this kind."""
    batch: int
    """How many are fed at a time."""

    def one(self, random: Random) -> bytes:
        """Make an input."""

    def feed(self, inputs: Sequence[bytes]) -> Iterable[str]:
        """Hand them over as strangers would; return the outcome of each, in a word.

        Anything that is raised is a finding.
        """

    def audit(self, outcomes: Counter[str]) -> None:
        """Check at the end that each input ended in a row with a reason, or in a counter."""


@dataclass(frozen=True, kw_only=True)
class Finding(Exception):  # noqa: N818 # it is one
    """What went wrong, and with which inputs."""

    what: str
    kind: str
    first: int
    number: int

    def __str__(self) -> str:
        again = f"make fuzz KIND={self.kind} SEED={SEED} FIRST={self.first} N={self.number}"
        return f"{self.what}: {again}"


def run(name: str, opened: AbstractContextManager[Kind]) -> Counter[str]:
    """Feed this kind its share of inputs, and audit. Raises `Finding`."""
    outcomes: Counter[str] = Counter()
    with opened as kind:
        number = max(int(TOTAL * kind.share), 1)
        before_mb = 0.0
        for first in range(FIRST, FIRST + number, kind.batch):
            size = min(kind.batch, FIRST + number - first)
            inputs = [
                kind.one(Random(f"{name} {SEED} {n}"))  # noqa: S311 # to be repeated
                for n in range(first, first + size)
            ]
            started = time.thread_time()
            try:
                outcomes.update(kind.feed(inputs))
            except Exception as error:
                what = f"{type(error).__name__} was raised"
                raise Finding(what=what, kind=name, first=first, number=size) from error
            took_s = time.thread_time() - started
            grown_mb = peak_mb() - before_mb
            if first - FIRST < WARM_UP:
                before_mb = peak_mb()
            elif grown_mb > MEMORY_MB:
                what = f"memory grew by {grown_mb:.0f} MB"
                raise Finding(what=what, kind=name, first=first, number=size)
            if took_s > WAIT_S:
                what = f"it took {took_s:.1f} s"
                raise Finding(what=what, kind=name, first=first, number=size)
        assert sum(outcomes.values()) == number, outcomes
        kind.audit(outcomes)
    return outcomes


def peak_mb() -> float:
    """The most memory that this process has had at a time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
