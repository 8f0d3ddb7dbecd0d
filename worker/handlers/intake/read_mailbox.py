r"""Reads a mailbox: each mail is stored first, then passed, then marked as read.

    fetch ─▶ TakeMail commits ─▶ the place is advanced past this mail alone ─▶ \Seen

Ended in between, the mail is fetched again, and taking it twice changes nothing. Unread mails are
never asked for: people open the mailbox, too.
"""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event
from typing import Final

from worker.channels.email.bounds import MAX_MAIL
from worker.channels.email.mailbox.session import MailboxSession, RefusedMailError
from worker.domain.email.mailbox import Place
from worker.domain.errors import RetryableError, SettingsError, named
from worker.domain.reasons import DeadLetterReason
from worker.handlers.telemetry.intake import record_look_failed, record_refused
from worker.net.clock import boottime
from worker.store.intake.mailboxes import QUEUE, MailboxStore

POLL_S: Final = 60.0
"""Longest time between two looks."""
_REFUSALS: Final = 10
"""Times that a server may refuse a mail before the next one has its turn: some minutes."""
_MOST_DOUBLINGS: Final = 6


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why a mail is set aside."""

    reason: DeadLetterReason
    text: str


@dataclass(kw_only=True)
class ReadMailbox:
    """Reads one folder until `stop` is set; one thread of one process."""

    name: str
    """Of its row; another folder or account has another one."""
    connect: Callable[[], MailboxSession]
    store: MailboxStore
    take: Callable[[bytes], object]
    """Commits a mail."""
    since: datetime | None
    """At the first time; None = only mails that arrive from now on."""
    stop: Event = field(default_factory=Event)
    poll_s: float = POLL_S
    max_bytes: int = MAX_MAIL
    refusals: int = _REFUSALS
    _looked_at: float = field(default_factory=boottime)
    _failures: int = 0
    _refused: Counter[int] = field(default_factory=Counter)

    def run(self) -> None:
        """Look, wait, look again; connect anew after whatever fails."""
        while not self.stop.is_set():
            try:
                with closing(self.connect()) as session:
                    while not self.stop.is_set():
                        self._look(session)
                        session.wait(self.poll_s, self.stop)
            # A poller that ends would go unnoticed until somebody misses an answer.
            except Exception as error:  # noqa: BLE001 - see above
                record_look_failed(error)
                self._failures += 1
                longest_s = min(2.0 ** min(self._failures, _MOST_DOUBLINGS), self.poll_s)
                self.stop.wait(longest_s * random.uniform(0.5, 1))  # noqa: S311 - no secret

    def look_age_s(self) -> float:
        """Return the seconds since all mails were last dealt with, or since the start."""
        return boottime() - self._looked_at

    def _look(self, session: MailboxSession) -> None:
        """Take all new mails. Returns early if another process reads, or it is to stop."""
        place, last = self.store.place(self.name, session.select(), self.since), 0
        for uid in session.uids_after(place):
            if self.stop.is_set() or not self._passed(session, place, uid):
                return
            last = uid
        self.store.looked(self.name, place, last)
        self._looked_at, self._failures = boottime(), 0
        self._refused.clear()

    def _passed(self, session: MailboxSession, place: Place, uid: int) -> bool:
        """Deal with one mail; False = another process does."""
        try:
            raw, fault = self._fetched(session, place, uid)
        except RefusedMailError:
            self._refused[uid] += 1
            if self._refused[uid] < self.refusals:
                raise
            text = "the mail server does not give it"
            raw, fault = b"", _Fault(DeadLetterReason.TASK_FAILED, text)
        return raw is None or self._taken(session, place, uid, raw, fault)

    def _fetched(
        self, session: MailboxSession, place: Place, uid: int
    ) -> tuple[bytes | None, _Fault | None]:
        """Fetch a mail; None = there is nothing to take, somebody has moved it or it is too old."""
        about = session.about(uid)
        if about is None or place.passes_over(uid, about.arrived):
            return None, None
        if about.size > self.max_bytes:
            fault = _Fault(DeadLetterReason.TOO_LARGE, f"it has {about.size} bytes")
            return session.header(uid), fault
        return session.mail(uid), None

    def _taken(
        self, session: MailboxSession, place: Place, uid: int, raw: bytes, fault: _Fault | None
    ) -> bool:
        with self.store.turn(self.name, place, uid) as turn:
            if turn is None:
                return False
            fault = fault or self._fault_of(raw)
            if fault is not None:
                detail = f"mail {uid} of the mailbox, UIDVALIDITY {place.uidvalidity}: {fault.text}"
                turn.set_aside(fault.reason, raw, detail)
        if fault is not None:
            record_refused(fault.reason, detail=detail, queue=QUEUE)
            return True
        session.mark_seen(uid)
        return True

    def _fault_of(self, raw: bytes) -> _Fault | None:
        """Take a mail; return why it cannot be taken."""
        try:
            self.take(raw)
        except (RetryableError, SettingsError):
            raise
        except Exception as error:  # noqa: BLE001 - the next mail must not wait for this one
            return _Fault(DeadLetterReason.TASK_FAILED, named(error))
        return None
