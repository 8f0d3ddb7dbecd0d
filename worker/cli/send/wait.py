"""Waits for what became of messages, by asking Postgres."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from worker.bootstrap.reports import open_reports
from worker.cli.console import progress_bar
from worker.store.reports.outcomes import MessageKey, OutcomeStore, Progress

_LOOK_EVERY_S: Final = 0.2


class OutcomeWatch:
    """Messages that were sent and have no outcome yet."""

    def __init__(self, replies: OutcomeStore, keys: Iterable[MessageKey] = ()) -> None:
        self._replies = replies
        self.open: dict[MessageKey, None] = dict.fromkeys(keys)

    def add(self, key: MessageKey) -> None:
        """Watch one more."""
        self.open[key] = None

    def look(self) -> list[Progress]:
        """Give those that ended since the last look, in the order they were sent."""
        ended = [one for one in self._replies.find(list(self.open)) if one.outcome is not None]
        for one in ended:
            del self.open[one.key]
        return ended


@contextmanager
def replies_in(database_url: str) -> Iterator[OutcomeStore]:
    """Open the replies for reading."""
    with open_reports(database_url) as reports:
        yield reports.outcomes


def wait_for_all(watch: OutcomeWatch, *, timeout_s: float) -> Counter[str]:
    """Wait until nothing is open or the time is over; count the outcomes."""
    outcomes: Counter[str] = Counter()
    deadline = time.monotonic() + timeout_s
    with progress_bar("outcomes", len(watch.open)) as tick:
        while watch.open:
            ended = watch.look()
            tick(len(ended))
            outcomes.update(str(one.outcome) for one in ended)
            if not watch.open or time.monotonic() > deadline:
                break
            time.sleep(_LOOK_EVERY_S)
    return outcomes
