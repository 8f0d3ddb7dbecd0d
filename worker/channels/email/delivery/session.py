"""One connection to an SMTP server, phase by phase: what failed before the end was not taken."""

import io
import re
import smtplib
import ssl
from typing import Final

from worker.domain.email.server import MailServer
from worker.net.access_token import access_token, xoauth2
from worker.net.clock import boottime
from worker.net.dial import bounded, dial, look_up
from worker.net.window import CallWindow

_READY, _OK, _AUTHENTICATED, _GO_ON = 220, 250, 235, 354
_CLOSING: Final = 421
_STATUS: Final = re.compile(rb"([245]\.[0-9]{1,3}\.[0-9]{1,3})\b")
"""Of RFC 3463, at the beginning of an answer."""
_OF_A_MAIL: Final = frozenset({"MAIL", "RCPT", "DATA", "end of data"})


class RefusedError(Exception):
    """The server has refused a phase. Nothing of its text is kept: it quotes addresses."""

    def __init__(self, phase: str, code: int, text: bytes = b"") -> None:
        found = _STATUS.match(text)
        self.phase, self.code, self.status = phase, code, found[1].decode() if found else ""
        super().__init__(" ".join((phase, str(code), self.status)).rstrip())

    @property
    def of_a_mail(self) -> bool:
        """Whether it is about one mail; False = about us."""
        return self.phase in _OF_A_MAIL

    @property
    def closes(self) -> bool:
        """Whether the connection cannot be used any more."""
        return self.code == _CLOSING or not self.of_a_mail


class InsecureError(Exception):
    """The server offers no TLS."""


class Session(smtplib.SMTP):
    """Not for two threads at once. All methods raise OSError or SMTPException, too."""

    def __init__(self, server: MailServer, *, tls: ssl.SSLContext, name: str) -> None:
        """Connect to nothing yet. `name`: ours in EHLO."""
        super().__init__(local_hostname=name)
        self._server, self._tls = server, tls
        self._host = server.host  # the name that STARTTLS checks
        self.window = CallWindow.starting_now(0)
        self.opened_at = boottime()
        self.mails = 0

    def open(self, window: CallWindow, token_command: str | None) -> None:
        """Connect, encrypt, log in. Raises `RefusedError`, `InsecureError`, `TokenError`."""
        self.window, server = window, self._server
        _expect("greeting", self.connect(server.host, server.port), _READY)
        _expect("EHLO", self.ehlo(), _OK)
        if not server.tls and not server.plain:
            if not self.has_extn("starttls"):
                raise InsecureError
            _expect("STARTTLS", self.starttls(context=self._tls), _READY)
            _expect("EHLO", self.ehlo(), _OK)
        if server.user is not None:
            self._log_in(server.user, server.password or "", token_command)

    def _log_in(self, user: str, password: str, token_command: str | None) -> None:
        try:
            if token_command is None:
                self.login(user, password)
                return
            answer = xoauth2(user, access_token(token_command, timeout_s=self.window.left_s()))
            # Asked once more, the server wants an empty line before it says why not.
            self.auth("XOAUTH2", lambda challenge=None: "" if challenge else answer)
        # Unchained: Python quotes what it cannot encode.
        except smtplib.SMTPAuthenticationError as error:
            text = error.smtp_error
            told = text if isinstance(text, bytes) else text.encode()
            raise RefusedError("AUTH", error.smtp_code, told) from None
        except (smtplib.SMTPNotSupportedError, ValueError) as error:
            raise RefusedError(f"AUTH {type(error).__name__}", 0) from None

    def is_alive(self, window: CallWindow) -> bool:
        """Whether it can take another mail; forgets what is left of the last one."""
        self.window = window
        try:
            return self.rset()[0] == _OK
        except (OSError, smtplib.SMTPException):
            return False

    def begin(self, sender: str, to: str, mail: str) -> None:
        """Send all of a mail but its end. Raises `RefusedError`."""
        self.mails += 1
        options: tuple[str, ...] = ()
        # Without it a server takes odd header fields as they are, but no such address.
        if not (sender + to).isascii() or (not mail.isascii() and self.has_extn("smtputf8")):
            options = ("BODY=8BITMIME", "SMTPUTF8")
        _expect("MAIL", self.mail(sender, options), _OK)
        _expect("RCPT", self.rcpt(to), _OK, _OK + 1)
        _expect("DATA", self.docmd("DATA"), _GO_ON)
        self.send(smtplib.quotedata(mail).encode())

    def end(self, window: CallWindow) -> bytes:
        """Send the end; return the answer's text. Raises `RefusedError`: it was not taken."""
        self.window = window
        self.send(b".\r\n")
        return _expect("end of data", self.getreply(), _OK)

    def _get_socket(self, host: str, port: int, _timeout: float) -> object:
        tls = self._tls if self._server.tls else None
        return dial((host, port), tls, self.window, lookup=bounded(look_up, self.window))

    def send(self, s: object) -> None:
        """Send within the deadline."""
        if self.sock is not None:
            self.sock.settimeout(self.window.left_s())
        super().send(s)  # type: ignore[arg-type]

    def getreply(self) -> tuple[int, bytes]:
        """Read an answer within the deadline."""
        if self.file is None and self.sock is not None:
            self.file = io.BufferedReader(_Reader(self))
        return super().getreply()


class _Reader(io.RawIOBase):
    """The deadline is that of the whole answer: a server may send it byte by byte."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        session = self._session
        assert session.sock is not None  # noqa: S101 - closed by close() alone
        session.sock.settimeout(session.window.left_s())
        return session.sock.recv_into(buffer)  # type: ignore[arg-type]


def _expect(phase: str, answer: tuple[int, bytes], *wanted: int) -> bytes:
    code, text = answer
    if code not in wanted:
        raise RefusedError(phase, code, text)
    return text
