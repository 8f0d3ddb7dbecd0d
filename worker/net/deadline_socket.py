"""A connected socket that keeps the deadlines of the call that uses it.

The timeouts of httpx and httpcore hold for each read alone, so an answer that trickles never ends.
Here each send and each read gets what is left of ONE window.
"""

import select
import socket
from typing import Any, Final

import httpcore

from worker.net.answer import IncompleteAnswerError
from worker.net.window import CallWindow

SEND_DEADLINE_PASSED: Final = "send deadline passed"
DEADLINE_PASSED: Final = "deadline passed"
STREAM_SILENT: Final = "stream silent"


class DeadlineSocket(httpcore.NetworkStream):
    """One socket under the window of the call that uses it now.

    httpcore writes head, body and an empty end one after the other. They are held back until that
    end and leave together, so that the send deadline decides over the request as a whole.
    """

    def __init__(self, sock: socket.socket, window: CallWindow) -> None:
        self._sock = sock
        self._held = bytearray()
        self.window = window
        self.ended = False
        """The other side has closed."""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 httpcore's per-write timeout
        """Hold a part of the request back; an empty one ends the request and sends all of it."""
        if buffer:
            self._held += buffer
        elif self._held:
            self._send()

    def _send(self) -> None:
        view = memoryview(self._held)
        self._held = bytearray()
        # Looked at again after lookup, connect and handshake: the process may have slept since.
        left_to_send_s(self.window)
        while view:
            self._sock.settimeout(self._left_s())
            # Before the call, not after it: a send that fails may have sent something.
            self.window.wrote = True
            try:
                view = view[self._sock.send(view) :]
            except TimeoutError as error:
                raise self._over() from error
            except OSError as error:
                # httpcore passes over a WriteError and reads: a server may refuse half-way.
                raise httpcore.WriteError(type(error).__name__) from error

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 httpcore's per-read timeout
        """Wait no longer than the window, return what has come; empty = the other side closed."""
        self._sock.settimeout(self._left_s())
        try:
            data = self._sock.recv(max_bytes)
        except TimeoutError as error:
            raise self._over() from error
        except OSError as error:
            raise IncompleteAnswerError(f"read: {type(error).__name__}") from error
        self.ended = not data
        return data

    def _left_s(self) -> float:
        # settimeout(0) would mean non-blocking, and a negative number is a ValueError.
        left_s = self.window.left_s()
        if left_s <= 0:
            raise self._over()
        return left_s

    def _over(self) -> IncompleteAnswerError:
        return IncompleteAnswerError(
            STREAM_SILENT if self.window.ends_by_silence else DEADLINE_PASSED
        )

    def close(self) -> None:
        """Close the socket."""
        self._held = bytearray()
        self._sock.close()

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 httpcore's signature
        """Answer httpcore's one question: has the other side written, or closed, unasked."""
        if info != "is_readable":
            return None
        poll = select.poll()  # select() ends at descriptor 1023
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))


def left_to_send_s(window: CallWindow) -> float:
    """Return the seconds until the send deadline. Raises IncompleteAnswerError if it passed."""
    left_s = window.left_to_send_s()
    if left_s <= 0:
        raise IncompleteAnswerError(SEND_DEADLINE_PASSED)
    return left_s
