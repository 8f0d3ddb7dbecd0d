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
from worker.store.dead_letters import keep_on
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetched:
    raw: bytes
    arrived: datetime | None = None
    """At the server; None = it is set aside."""
    fault: _Fault | None = None


@dataclass(kw_only=True)
class ReadMailbox:
    """Reads one folder until `stop` is set; one thread of one process."""

    name: str
    """Of its row; another folder or account has another one."""
    connect: Callable[[], MailboxSession]
    store: MailboxStore
    take: Callable[[bytes, datetime | None], object]
    """Commits a mail, which arrived at its server then."""
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
        place, last = self._place(session), 0
        for uid in session.uids_after(place):
            if self.stop.is_set() or not self._passed(session, place, uid):
                return
            last = uid
        self.store.looked(self.name, place, last)
        self._looked_at, self._failures = boottime(), 0
        self._refused.clear()

    def _place(self, session: MailboxSession) -> Place:
        """Return where to go on."""
        view = session.select()
        place = self.store.place(self.name, view, self.since)
        if place.last_uid < view.next_uid:
            return place
        # Another process may have been faster than this view.
        view = session.select()
        anew = place.last_uid >= view.next_uid
        return self.store.place(self.name, view, self.since, anew=anew)

    def _passed(self, session: MailboxSession, place: Place, uid: int) -> bool:
        """Deal with one mail; False = another process does."""
        try:
            fetched = self._fetched(session, place, uid)
        except RefusedMailError:
            self._refused[uid] += 1
            if self._refused[uid] < self.refusals:
                raise
            text = "the mail server does not give it"
            fetched = _Fetched(raw=b"", fault=_Fault(DeadLetterReason.TASK_FAILED, text))
        return fetched is None or self._taken(session, place, uid, fetched)

    def _fetched(self, session: MailboxSession, place: Place, uid: int) -> _Fetched | None:
        """Fetch a mail; None = there is nothing to take, somebody has moved it or it is too old."""
        about = session.about(uid)
        if about is None or place.passes_over(uid, about.arrived):
            return None
        if about.size > self.max_bytes:
            fault = _Fault(DeadLetterReason.TOO_LARGE, f"it has {about.size} bytes")
            return _Fetched(raw=session.header(uid), fault=fault)
        raw = session.mail(uid)
        return None if raw is None else _Fetched(raw=raw, arrived=about.arrived)

    def _taken(self, session: MailboxSession, place: Place, uid: int, fetched: _Fetched) -> bool:
        with self.store.turn(self.name, place, uid) as connection:
            if connection is None:
                return False
            fault = fetched.fault or self._fault_of(fetched)
            if fault is not None:
                detail = f"mail {uid} of the mailbox, UIDVALIDITY {place.uidvalidity}: {fault.text}"
                reason, raw = fault.reason, fetched.raw
                keep_on(connection, reason=reason, raw=raw, detail=detail, queue=QUEUE)
        if fault is not None:
            record_refused(fault.reason, detail=detail, queue=QUEUE)
            return True
        session.mark_seen(uid)
        return True

    def _fault_of(self, fetched: _Fetched) -> _Fault | None:
        """Take a mail; return why it cannot be taken."""
        try:
            self.take(fetched.raw, fetched.arrived)
        except (RetryableError, SettingsError):
            raise
        except Exception as error:  # noqa: BLE001 - the next mail must not wait for this one
            return _Fault(DeadLetterReason.TASK_FAILED, named(error))
        return None
