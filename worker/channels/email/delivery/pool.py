"""Connections to an SMTP server, which all threads of the process share.

There are few: a server that is silent after a mail holds a thread for ten minutes, and the others
have to stay free for the other channels.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from worker.channels.email.delivery.session import RefusedError, Session
from worker.net.clock import boottime
from worker.net.window import CallWindow

MAX_SESSIONS: Final = 4
MAX_MAILS: Final = 100
"""Through one connection."""
MAX_AGE_S: Final = 60.0
_PATIENCE_S: Final = 2.0
"""How long a mail waits for a connection that comes free."""


class BusyError(Exception):
    """All connections are in use."""


@dataclass(kw_only=True)
class SessionPool:
    """Opens connections when they are needed, and keeps those that can take another mail."""

    connect: Callable[[CallWindow], Session]
    patience_s: float = _PATIENCE_S
    _free: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(MAX_SESSIONS))
    _idle: list[Session] = field(default_factory=list)

    @contextmanager
    def session(self, window: CallWindow) -> Iterator[Session]:
        """Lend one. Raises `BusyError`, and what `connect` raises."""
        if not self._free.acquire(timeout=self.patience_s):
            raise BusyError
        try:
            session = self._reused(window) or self.connect(window)
            try:
                yield session
            except RefusedError as error:
                (session.close if error.closes else lambda: self._idle.append(session))()
                raise
            except BaseException:
                session.close()
                raise
            self._idle.append(session)
        finally:
            self._free.release()

    def close(self) -> None:
        """Close those that are not in use."""
        while self._idle:
            self._idle.pop().close()

    def _reused(self, window: CallWindow) -> Session | None:
        while self._idle:
            session = self._idle.pop()
            young = boottime() - session.opened_at < MAX_AGE_S and session.mails < MAX_MAILS
            if young and session.is_alive(window):
                return session
            session.close()
        return None
