"""How far a mailbox is read."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A folder as the server shows it."""

    uidvalidity: int
    next_uid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """All mails up to `last_uid` are dealt with."""

    uidvalidity: int
    last_uid: int
    since: datetime
    filtered_to: int
    """Up to this UID, mails that arrived before `since` are passed over."""

    @property
    def search_from(self) -> date:
        """The day from which a server is asked: it compares days, in a zone of its own."""
        return (self.since - timedelta(days=1)).date()

    def passes_over(self, uid: int, arrived: datetime) -> bool:
        """Whether a mail is an old one that nobody wants an answer to."""
        return uid <= self.filtered_to and arrived < self.since.replace(microsecond=0)
