"""Drafts: replies of the model that wait for a person, and what the model is told of them.

    held ──approve, edit──▶ the way of every reply
         ├─reject─────────▶ rejected
         ├─nobody decides─▶ expired
         └─newer messages─▶ superseded: the next reply covers them

The thread at Telnyx has the draft as the model's answer, and cannot be changed. So the model is
told before the person's next message what became of it.
"""

from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from enum import StrEnum
from typing import Final

from worker.domain.ids import ChannelUserId, MessageRowId, ReplyId
from worker.domain.people.policies import Approve
from worker.domain.states import DeliveryState, ReplySource

ASK_FOR_REVIEW: Final = "ask_for_review"
"""The built-in tool by which the model asks for a person."""
NOT_SENT: Final = "[Your previous reply was not sent.]"


class HeldFor(StrEnum):
    """Why a reply waits."""

    ALL = "all"
    NEW_USER = "new_user"
    ASKED = "asked"
    """The model has asked for it."""
    INCOMPLETE = "incomplete"
    """The answer was cut off."""


class Decision(StrEnum):
    """What a person has decided."""

    APPROVED = "approved"
    EDITED = "edited"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingDraft:
    """A draft in a list, without its text."""

    id: ReplyId
    user: ChannelUserId
    channel: str
    agent: str
    held_for: HeldFor
    created_at: datetime
    expires_at: datetime
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftMessage:
    """A message of the person that a draft answers."""

    id: MessageRowId
    accepted_at: datetime
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A reply that is or was a draft. It has texts: never log it."""

    id: ReplyId
    user: ChannelUserId
    channel: str
    agent: str
    state: DeliveryState
    held_for: HeldFor
    reason: str | None
    """The model's words, if it has asked for a person."""
    messages: tuple[DraftMessage, ...]
    text: str
    """As it goes out, or would."""
    draft: str | None
    """As the model wrote it, if somebody has changed it."""
    newer: int
    """Messages that have come since: with one, it cannot be approved any more."""
    created_at: datetime
    expires_at: datetime | None
    age_s: float
    decision: Decision | None
    """None = nobody has decided."""
    reviewed_by: str | None
    reviewed_at: datetime | None


def why_held(approve: Approve, *, asked: bool, incomplete: bool) -> HeldFor | None:
    """Return why a reply of the model waits; None = it does not.

    `NEW_USER`: only if no reply to this channel user has gone out yet.
    """
    match approve:
        case Approve.ALL:
            return HeldFor.ALL
        case Approve.NEW_USERS:
            return HeldFor.NEW_USER
        case Approve.LOW_CONFIDENCE if asked:
            return HeldFor.ASKED
        case Approve.LOW_CONFIDENCE if incomplete:
            return HeldFor.INCOMPLETE
        case _:
            return None


def sent_instead(text: str) -> str:
    """Return what the model is told of a draft in whose place our staff sent this."""
    return f"[Your previous reply was not sent. Our staff sent this instead:]\n{text}"


def decision_of(
    state: DeliveryState, source: ReplySource, reviewed_at: datetime | None
) -> Decision | None:
    """Return the decision about a draft; None = there is none."""
    if reviewed_at is None:
        return None
    if state is DeliveryState.REJECTED:
        return Decision.REJECTED
    return Decision.EDITED if source is ReplySource.EDITED else Decision.APPROVED


def share_changed(draft: str, text: str) -> float:
    """Return how much of a draft somebody has changed: 0 = nothing, 1 = every word."""
    # By words: by characters, long texts would take seconds.
    return 1.0 - SequenceMatcher(None, draft.split(), text.split()).ratio()
