"""Waits until messages have their outcomes."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from worker.cli.console import progress_bar
from worker.cli.errors import CommandError
from worker.client import MessageKey, Outcome, Outcomes, ProducerError

_LOOK_EVERY_S: Final = 0.2


class OutcomeWatch:
    """Messages that were sent and have no outcome yet."""

    def __init__(self, outcomes: Outcomes, keys: Iterable[MessageKey] = ()) -> None:
        self._outcomes = outcomes
        self.open: dict[MessageKey, None] = dict.fromkeys(keys)

    def add(self, key: MessageKey) -> None:
        """Watch one more."""
        self.open[key] = None

    def look(self) -> list[tuple[MessageKey, Outcome]]:
        """Return those that ended since the last look, in the order they were sent."""
        ended = self._outcomes.by_key(list(self.open))
        for key, _ in ended:
            del self.open[key]
        return ended


@contextmanager
def outcomes_in(database_url: str) -> Iterator[Outcomes]:
    """Open the outcomes for reading. Raises `CommandError` if Postgres is away."""
    try:
        with Outcomes(database_url) as outcomes:
            yield outcomes
    except ProducerError as error:
        raise CommandError(f"{error}. Is it running, and is DATABASE_URL right?") from None


def wait_for_all(watch: OutcomeWatch, *, timeout_s: float) -> list[Outcome]:
    """Wait until nothing is open or the time is over; return the outcomes that came."""
    outcomes: list[Outcome] = []
    deadline = time.monotonic() + timeout_s
    with progress_bar("outcomes", len(watch.open)) as tick:
        while watch.open:
            ended = watch.look()
            tick(len(ended))
            outcomes += [outcome for _, outcome in ended]
            if not watch.open or time.monotonic() > deadline:
                break
            time.sleep(_LOOK_EVERY_S)
    return outcomes


def count_outcomes(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Count messages by outcome."""
    return dict(Counter(one.outcome for one in outcomes))
