r"""One connection to a mailbox.

`BODY.PEEK[]` and `\Seen` are two steps: a mail is marked only once it is stored. The folder is
selected anew for each look, as some servers show a long-lived session an old state.
"""

import imaplib
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from time import mktime
from typing import Final, Self

from imap_tools import AND, BaseMailBox, MailBox, MailBoxStartTls, MailBoxUnencrypted, U
from imap_tools.errors import ImapToolsError

from worker.domain.email.mailbox import Place, View
from worker.domain.email.server import MailServer
from worker.net.access_token import TokenError, access_token, xoauth2
from worker.net.clock import boottime

TIMEOUT_S: Final = 30.0
"""For each piece of an answer."""
_SLICE_S: Final = 1.0
"""Within IDLE, how long a request to stop may wait."""
_UID: Final = re.compile(rb"\bUID ([0-9]+)")
_SIZE: Final = re.compile(rb"RFC822\.SIZE ([0-9]+)")
_MAX_HEADER: Final = 64 * 1024


class MailboxError(Exception):
    """A step failed. Nothing of the server's text is kept: it quotes addresses."""

    def __init__(self, step: str, cause: str) -> None:
        super().__init__(f"{step}: {cause}")
        self.step = step


class RefusedMailError(MailboxError):
    """The server has a mail and does not return it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """A mail, before it is fetched."""

    arrived: datetime
    """At the server, by its clock."""
    size: int


class MailboxSession:
    """Logged in. Not for two threads at once; its methods raise `MailboxError`."""

    def __init__(self, box: BaseMailBox, folder: str) -> None:
        """Take over a connection."""
        self._box, self._folder = box, folder
        self._can_idle = False

    @classmethod
    def open(
        cls,
        server: MailServer,
        *,
        tls: ssl.SSLContext,
        token_command: str | None,
        timeout_s: float = TIMEOUT_S,
    ) -> Self:
        """Connect, encrypt, log in."""
        with _step("connect"):
            box = _connected(server, tls, timeout_s)
        session = cls(box, server.path or "INBOX")
        try:
            session._log_in(server.user or "", server.password or "", token_command, timeout_s)
        except BaseException:
            session.close()
            raise
        return session

    def _log_in(self, user: str, password: str, command: str | None, timeout_s: float) -> None:
        client = self._box.client
        with _step("login"):
            if command is not None:
                answer = xoauth2(user, access_token(command, timeout_s=timeout_s)).encode()
                # Asked once more, the server wants an empty line before it says why not.
                client.authenticate("XOAUTH2", lambda asked: b"" if asked else answer)
            elif (user + password).isascii():
                self._box.login(user, password, initial_folder=None)
            else:
                self._box.login_utf8(user, password, initial_folder=None)
            # Asked again: some tell only those who are logged in.
            _, told = client.capability()
            self._can_idle = b"IDLE" in told[0].upper().split()

    def close(self) -> None:
        """Hang up."""
        try:
            self._box.client.shutdown()
        except (imaplib.IMAP4.error, OSError):
            return

    def select(self) -> View:
        """Look at the folder anew."""
        with _step("select"):
            self._box.folder.set(self._folder)
            self._told_of_mail()  # as each SELECT does
            found = [self._box.client.response(name)[1] for name in ("UIDVALIDITY", "UIDNEXT")]
            validity, following = (int(one[-1]) for one in found)
            return View(uidvalidity=validity, next_uid=following)

    def uids_after(self, place: Place) -> list[int]:
        """Return the UIDs of the mails that are to be looked at, in their order."""
        found: set[int] = set()
        if place.last_uid < place.filtered_to:
            found |= self._search(
                AND(
                    uid=U(str(place.last_uid + 1), str(place.filtered_to)),
                    date_gte=place.search_from,
                )
            )
        start = max(place.last_uid, place.filtered_to) + 1
        found |= self._search(AND(uid=U(str(start), "*")))
        # The last mail of all is always within `:*`.
        return sorted(uid for uid in found if uid > place.last_uid)

    def _search(self, criteria: AND) -> set[int]:
        with _step("search"):
            return {int(uid) for uid in self._box.uids(criteria, charset=None)}

    def about(self, uid: int) -> About | None:
        """Return what the server knows of a mail; None = it is not here any more."""
        for item in self._fetch(uid, "(UID INTERNALDATE RFC822.SIZE)"):
            told = item[0] if isinstance(item, tuple) else item
            size = _SIZE.search(told)
            arrived = imaplib.Internaldate2tuple(told)
            if size and arrived and _is_of(uid, told):
                when = datetime.fromtimestamp(mktime(arrived), UTC)
                return About(arrived=when, size=int(size[1]))
        self._check_gone(uid)
        return None

    def mail(self, uid: int) -> bytes | None:
        """Return the bytes of a mail, which stays as unread as it was; None = it is gone."""
        raw = self._literal(uid, "BODY.PEEK[]")
        if not raw:
            self._check_gone(uid)
        return raw or None

    def header(self, uid: int) -> bytes:
        """Return the beginning of a mail, for people."""
        return self._literal(uid, f"BODY.PEEK[HEADER]<0.{_MAX_HEADER}>") or b""

    def _literal(self, uid: int, item: str) -> bytes | None:
        found = self._fetch(uid, f"(UID {item})")
        around = b" ".join(one[0] if isinstance(one, tuple) else one for one in found)
        if not _is_of(uid, around):
            return None
        return next(
            (one[1] for one in found if isinstance(one, tuple) and b"BODY[" in one[0]), None
        )

    def _fetch(self, uid: int, items: str) -> list[bytes | tuple[bytes, bytes]]:
        with _step("fetch"):
            status, found = self._box.client.uid("FETCH", str(uid), items)
        # A connection that ends within an answer raises: no piece is ever taken for a mail.
        return [one for one in found if one is not None] if status == "OK" else []

    def _check_gone(self, uid: int) -> None:
        """Raise `RefusedMailError` if a mail is still there."""
        if uid in self._search(AND(uid=U(str(uid), str(uid)))):
            raise RefusedMailError("fetch", "the mail is there, and the server does not give it")

    def mark_seen(self, uid: int) -> None:
        """Show people that the mail is dealt with; a mailbox that refuses it stays as it is."""
        with _step("store"):
            self._box.client.uid("STORE", str(uid), "+FLAGS.SILENT", r"(\Seen)")

    def _told_of_mail(self) -> bool:
        """Whether EXISTS came with an answer since this was last asked."""
        return self._box.client.response("EXISTS")[1] != [None]

    def wait(self, seconds: float, stop: Event) -> None:
        """Wait for new mail, for at most `seconds`.

        IDLE is only a hint. It ends here each time, so the server has to answer: a connection that
        is dead shows itself.
        """
        # A server tells of new mail with any answer, once: IDLE would not repeat it.
        if self._told_of_mail():
            return
        if not self._can_idle:
            stop.wait(seconds)
            return
        with _step("idle"):
            self._box.idle.start()  # type: ignore[no-untyped-call]
            until = boottime() + seconds
            while not stop.is_set() and (left := until - boottime()) > 0:
                began, for_s = boottime(), min(_SLICE_S, left)
                told = self._box.idle.poll(for_s)
                # Nothing, and too early: the connection has ended.
                ended = not told and boottime() - began < for_s / 2
                if ended or any(b"EXISTS" in line for line in told):
                    break
            self._box.idle.stop()  # type: ignore[no-untyped-call]


def _connected(server: MailServer, tls: ssl.SSLContext, timeout_s: float) -> BaseMailBox:
    host, port = server.host, server.port
    if server.plain:
        return MailBoxUnencrypted(host, port, timeout_s)
    if server.tls:
        return MailBox(host, port, timeout=timeout_s, ssl_context=tls)
    return MailBoxStartTls(host, port, timeout=timeout_s, ssl_context=tls)


def _is_of(uid: int, told: bytes) -> bool:
    # A server may tell of changes in other mails in between.
    return str(uid).encode() in _UID.findall(told)


@contextmanager
def _step(name: str) -> Iterator[None]:
    try:
        yield
    except TokenError as error:
        raise MailboxError(name, str(error)) from None
    except imaplib.IMAP4.abort:
        raise MailboxError(name, "the connection ended") from None
    except (imaplib.IMAP4.error, ImapToolsError):
        raise MailboxError(name, "the server refuses it") from None
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise MailboxError(name, type(error).__name__) from None
