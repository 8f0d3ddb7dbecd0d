"""The living worker processes of an installation, as this one knows them from its last heartbeat.

Each could look for due work every second. Instead, each has times of its own at which it looks, and
the more there are, the further apart: somebody looks every second, or more often. That takes no
election. If a process dies, the others look at its times too once their heartbeats count it no
more.
"""

from dataclasses import dataclass
from typing import Final

MOST_APART: Final = 15
"""However many there are, each looks again after this number of the intervals of a single one."""


@dataclass(slots=True)
class Fleet:
    """How many processes there are, and the place of this one, counted from 0, the oldest first."""

    size: int = 1
    place: int = 0

    def gap_s(self, every_s: float) -> float:
        """Return the time between two looks of any process; a single one looks `every_s`."""
        return every_s * min(self.size, MOST_APART) / self.size

    def look_in_s(self, every_s: float, now_s: float) -> float:
        """Return the time until this process's next look. `now_s`: by a clock that all share."""
        gap_s = self.gap_s(every_s)
        own_s = gap_s * self.size
        if self.size == 1:
            return own_s
        wait_s = (self.place * gap_s - now_s) % own_s
        # It has just looked, a little before its time.
        return wait_s if wait_s > gap_s / 2 else wait_s + own_s

    def spread_s(self, every_s: float) -> float:
        """Return how long each waits, so that some wait of all ends `every_s` or more often."""
        return every_s * min(self.size, MOST_APART)


FLEET: Final = Fleet()
"""Of this process."""
