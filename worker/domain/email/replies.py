"""What a reply by mail takes from the mail that it answers, and what is kept of it."""

from dataclasses import dataclass


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
