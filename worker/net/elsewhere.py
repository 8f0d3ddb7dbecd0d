"""Counts the threads that wait for another program: Telnyx, a tool, a receiver of replies.

The others compute, or soon will: while there are many, taking further messages off the queue only
makes all of them slower.
"""

from threading import Lock
from typing import Final


class Elsewhere:
    """Use it as a context around what waits."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.threads = 0

    def __enter__(self) -> None:
        with self._lock:
            self.threads += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.threads -= 1


ELSEWHERE: Final = Elsewhere()
"""Of this process."""
