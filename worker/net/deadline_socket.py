"""A connected socket that keeps the deadlines of the call that uses it.

The timeouts of httpx and httpcore hold for each read alone, so an answer that trickles never ends.
Here each send and each read gets what is left of ONE window.
"""

import select
import socket
from typing import Any

import httpcore

from worker.net.answer import IncompleteAnswerError
from worker.net.window import CallWindow


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
        self.window.left_to_send_s()
        while view:
            self._sock.settimeout(self.window.left_s())
            # Before the call, not after it: a send that fails may have sent something.
            self.window.wrote = True
            try:
                view = view[self._sock.send(view) :]
            except TimeoutError as error:
                raise self.window.over() from error
            except OSError as error:
                # httpcore passes over a WriteError and reads: a server may refuse half-way.
                raise httpcore.WriteError(type(error).__name__) from error

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 httpcore's per-read timeout
        """Wait no longer than the window, return what has come; empty = the other side closed."""
        self._sock.settimeout(self.window.left_s())
        try:
            data = self._sock.recv(max_bytes)
        except TimeoutError as error:
            raise self.window.over() from error
        except OSError as error:
            raise IncompleteAnswerError(f"read: {type(error).__name__}") from error
        self.ended = not data
        return data

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
