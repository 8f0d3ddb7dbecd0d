# mypy: disallow-untyped-calls=False
"""Makes Celery's event loop notice a signal at once.

After a signal, Python goes on with the wait that it has interrupted: for up to ten seconds, if
nothing happens. Here Python also writes the signal to a socket for which the loop waits.
"""

import signal
import socket
from contextlib import suppress
from typing import Any, Final


class WakeOnSignal:
    """One for the process."""

    def __init__(self) -> None:
        self._sockets: tuple[socket.socket, socket.socket] | None = None

    def register(self, hub: Any) -> None:  # noqa: ANN401 - Celery publishes no types
        """Have each signal wake this loop; again after the loop was reset."""
        self._sockets = bell, cord = self._sockets or socket.socketpair()
        for end in (bell, cord):
            end.settimeout(0)
        # In a test the loop may run in another thread, which no signal reaches.
        with suppress(ValueError):
            signal.set_wakeup_fd(cord.fileno(), warn_on_full_buffer=False)
        hub.add_reader(bell, self._heard, bell)

    def close(self) -> None:
        """Close the sockets; the loop waits no more."""
        for end in self._sockets or ():
            end.close()

    def _heard(self, bell: socket.socket) -> None:
        with suppress(BlockingIOError):
            bell.recv(4096)


WAKE_ON_SIGNAL: Final = WakeOnSignal()
