"""A mail as it was received, the envelope that its server saw, and what is kept of our answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Address:
    """Somebody in a header; the domain of `address` is in lower case."""

    address: str
    name: str = ""

    @property
    def local(self) -> str:
        """The part before the @, in lower case."""
        return self.address.rpartition("@")[0].lower()

    @property
    def domain(self) -> str:
        """The part after the @."""
        return self.address.rpartition("@")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A part that is not the text."""

    name: str
    content_type: str
    size: int
    """In bytes; of a part that was cut, about."""
    data: bytes | None = None
    """Of a picture that is small enough for a model; None = only mentioned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpEnvelope:
    """What the server that took the mail was told, apart from the mail itself."""

    sender: str | None = None
    """Of MAIL FROM: empty for a bounce; None = not known."""
    recipient: str | None = None
    """Of RCPT TO; None = not known."""
    arrived: datetime | None = None
    """When the mail came there, if it has waited since; None = just now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A parsed mail. All of it is somebody else's word, and every text has a bound."""

    headers: Mapping[str, tuple[str, ...]]
    """By name in lower case, unfolded, not decoded; the first is the topmost."""
    message_id: str
    """With its brackets; made of a hash if there is none, or a longer one than 998 characters."""
    in_reply_to: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    """The oldest first."""
    sender: Address | None = None
    """Of From, else of Sender; None = neither has an address."""
    reply_to: tuple[Address, ...] = ()
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    subject: str = ""
    sent_at: datetime | None = None
    plain: str = ""
    """The text as text/plain; of parts that have only HTML, the text of that."""
    html: str = ""
    """The HTML beside `plain`, or in its place."""
    attachments: tuple[Attachment, ...] = ()
    parts: frozenset[str] = frozenset()
    """Content types of all parts, without those inside of attached mails."""
    calendar: bool = False
    """It is an invitation or an answer to one, see RFC 5546."""
    encrypted: bool = False
    """There is a text, and only the recipient's key reads it."""
    cut: frozenset[str] = frozenset()
    """What was left out because of a bound, for people."""
    smtp: SmtpEnvelope = field(default=SmtpEnvelope())

    def header(self, name: str) -> str:
        """Return the topmost value of this header, in lower case without edges; "" if absent."""
        values = self.headers.get(name, ())
        return values[0].strip().lower() if values else ""

    @property
    def recipients(self) -> tuple[Address, ...]:
        """All whom the headers name as recipients."""
        return self.to + self.cc


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredMail:
    """The newest mail that a reply answers, as it is stored."""

    message_id: str
    root: str
    refs: tuple[str, ...]
    """References of an answer to it."""
    subject: str
    reply_to: str | None
    """Where the answer goes; None = to the channel user's address."""
    from_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMail:
    """A mail of ours. It is kept before it leaves: the answer to it may come first."""

    message_id: str
    root: str
    """Message-ID of the first mail of its thread."""
    refs: tuple[str, ...]
    subject: str
