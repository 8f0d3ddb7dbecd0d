"""Turn slots: how many turns one process works at once, so that intake never waits for Telnyx."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TurnSlots:
    """A bounded number of slots; a freed one rouses whoever waits for it."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._count = count
        self._free = count
        self._closed = False
        self.roused = threading.Event()
        """Set when a slot came free or work may have come in; the sweeper clears it."""

    @property
    def free(self) -> int:
        """How many turns could start now."""
        with self._lock:
            return 0 if self._closed else self._free

    @property
    def busy(self) -> int:
        """How many turns are being worked."""
        return self._count - self._free

    def take(self) -> bool:
        """Take a slot if there is one; never waits."""
        with self._lock:
            if self._closed or self._free <= 0:
                return False
            self._free -= 1
            return True

    def give_back(self) -> None:
        """Free a slot that was taken."""
        with self._lock:
            self._free += 1
            was_last = self._free == 1
        if was_last:
            self.roused.set()

    @contextmanager
    def taken(self) -> Iterator[bool]:
        """Hold a slot for a while; yields False where there was none."""
        taken = self.take()
        try:
            yield taken
        finally:
            if taken:
                self.give_back()

    def close(self) -> None:
        """Let no further turn start; running ones go on."""
        with self._lock:
            self._closed = True
        self.roused.set()

    @property
    def closed(self) -> bool:
        """Whether this process is going down."""
        return self._closed
