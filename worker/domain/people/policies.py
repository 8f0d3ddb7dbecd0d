"""The configuration of drafts, hand-over, disclosure and hours."""

from dataclasses import dataclass
from datetime import time
from enum import StrEnum
from zoneinfo import ZoneInfo


class Approve(StrEnum):
    """Which replies of the model wait for a person."""

    ALL = "all"
    NEW_USERS = "new_users"
    """Until one reply to this channel user has gone out."""
    LOW_CONFIDENCE = "low_confidence"
    """The model has asked for it, or its answer was cut off."""
    NONE = "none"


class HandOverTrigger(StrEnum):
    """What else hands a conversation over, besides the model and the person."""

    THREAT = "threat"
    MINOR = "minor"
    REFUSAL = "refusal"
    """A content filter, or the model, has refused to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """How an agent hands a conversation over to our staff."""

    notify: str | None = None
    """The way out, with the prefix `ROUTE`, that is told; None = nothing is."""
    text: str | None = None
    """Sent to the person; None = nothing is sent."""
    words: tuple[str, ...] = ("HUMAN",)
    """A message of one of them, and of nothing else, asks for a person."""
    tool: bool = True
    """The model may do it."""
    on: tuple[HandOverTrigger, ...] = tuple(HandOverTrigger)
    after_failed_turns: int | None = 3
    """In a row, of one channel user; None = however many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disclosure:
    """How people are told that an AI writes to them."""

    language: str
    text: str | None = None
    """None = the default text of that language."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """When replies that are not immediate may go out; over midnight if `end` is before `start`."""

    start: time
    end: time
    zone: ZoneInfo
    """Where the person's own is not known."""
    late_after_s: float = 600.0
    """A reply is immediate if the person's newest message is younger."""
    recheck_after_s: float = 3600.0
    """A reply that is older is superseded by newer messages."""
