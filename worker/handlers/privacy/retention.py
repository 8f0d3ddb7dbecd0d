"""Removes personal data that is older than the setting allows, batch by batch."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from worker.net.clock import boottime
from worker.observability.logs import log
from worker.store.privacy.retention import RetentionStore

EVERY_S = 3600.0
LOOK_EVERY_S = 60.0
"""The interval at which each process asks whether a pass is due."""


@dataclass(kw_only=True)
class HourlyRetention:
    """A pass an hour, by one of all processes: a batch for each look of its sweeper."""

    store: RetentionStore
    _due_at: float = 0.0
    """The first look is at once."""
    _pass: Iterator[Mapping[str, int]] | None = None
    _removed: Counter[str] = field(default_factory=Counter)

    def __call__(self) -> bool:
        """Run the next batch if one is due; return whether another one follows."""
        if self._pass is None:
            if boottime() < self._due_at:
                return False
            # Before the question, so that a database that is away is not asked with every sweep.
            self._due_at = boottime() + LOOK_EVERY_S
            if not self.store.begin(every_s=EVERY_S):
                return False
            self._removed.clear()
            self._pass = self.store.run(waits=False)
        try:
            counts = next(self._pass, None)
        except Exception:
            self._pass = None  # a generator that has raised yields nothing more
            raise
        if counts is not None:
            self._removed.update(counts)
            return True
        self._pass = None
        if self._removed:
            log.info("retention.done", **self._removed)
        return False
