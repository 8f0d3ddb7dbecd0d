"""Inbound messages, and how several of them become one user item."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile
from typing import Final

from worker.domain.fairness import Fairness
from worker.domain.ids import ChannelUserId, MessageRowId
from worker.domain.screening.consents import LedgerEntry, ServiceText
from worker.domain.screening.verdict import Verdict

MAX_TURN_MESSAGES = 20
MAX_TURN_BYTES = 32 * 1024
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelAddress:
    """The four fields that identify a channel user."""

    channel: str
    recipient: str
    address: str
    thread: str

    def as_producers_name_it(self) -> dict[str, str]:
        """Return the four fields under the names that they have in an envelope."""
        who = {"channel": self.channel, "recipient": self.recipient}
        return who | {"user": self.address, "thread": self.thread}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An attachment. Exactly one of `url` and `data` (base64) is set."""

    content_type: str
    url: str | None = None
    data: str | None = None

    @property
    def is_image(self) -> bool:
        """Whether a model can look at it."""
        return self.content_type.lower().startswith("image/")

    @property
    def has_plain_type(self) -> bool:
        """Whether it has the form of RFC 6838."""
        # Anything else would be a sender's free text in the middle of what we tell the model.
        return _MEDIA_TYPE.fullmatch(self.content_type) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """What a queue entry says about the program that sent it."""

    task_id: str | None = None
    """A UUID, as logs and Flower show it; None = there is no Celery task, or no id of it."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """`task`, `origin`, `lang` and `traceparent`, if they have the form that Celery gives them."""


UNKNOWN_SENDER: Final = Sender()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A valid envelope, routed."""

    who: ChannelAddress
    message_id: str
    agent: str
    text: str
    attachments: tuple[Attachment, ...]
    reply_to: str | None
    """The route that its reply takes; None = as its channel has it."""
    envelope: str
    """The whole envelope as JSON, to be stored: fields that we do not know are part of it."""
    sent_at: datetime | None
    hold_s: float
    """How long its turn waits for further messages."""
    max_wait_s: float
    """Longest wait of a turn, counted from its oldest message."""
    expires_at: datetime | None
    max_pending: int
    """Limit of waiting messages per user; beyond it, this one is skipped."""
    fairness: Fairness
    group: int
    """The key of the address group, see `Fairness.group_of`."""
    scope: str
    """The scope of its channel in the ledger of opt-outs."""
    surplus: bool = False
    """Enough turns of that group are in progress in this process; others may be due in Postgres."""
    not_before: datetime | None = None
    """It is accepted then, and not earlier; None = at once."""
    skip: str | None = None
    """An outcome that it has from the start, so that it is not answered; None = none yet."""
    verdict: Verdict | None = None
    """What screening recognised; None = nothing, or `skip` has another reason."""
    consent: LedgerEntry | None = None
    """With it the person opts out or in; None = neither."""
    service: ServiceText | None = None
    """Sent with a `skip`, in place of an answer; with a `consent`, if that changes something."""
    task_id: str | None = None
    """The Celery task that brought it, a UUID; None = it came by SQL or by a replay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingMessage:
    """An accepted message that no turn has taken yet."""

    id: MessageRowId
    agent: str
    text: str
    attachments: tuple[Attachment, ...] = ()
    expires_at: datetime | None = None
    alone: bool = False
    """It was part of a turn that Telnyx refused, and now gets a turn of its own."""
    accepted_at: datetime | None = None
    """None = not loaded."""
    reply_to: str | None = None
    """The route that its reply takes; None = as its channel has it."""
    traceparent: str | None = None
    """W3C trace context of its acceptance; None = not traced."""


def next_batch(pending: Sequence[PendingMessage]) -> tuple[PendingMessage, ...]:
    """Return the messages that the next turn answers: the first ones of `pending`, in order.

    All are for one agent and one route. At most 20 messages and 32 KiB of text; a longer message
    goes alone.
    """
    taken: list[PendingMessage] = []
    size_bytes = 0
    # A turn has one reply, which one agent writes and one route delivers.
    way = [(one.agent, one.reply_to) for one in pending[:1]]
    # Only a leading run: to pick out a later message would break the user's order.
    for message in takewhile(lambda one: (one.agent, one.reply_to) in way, pending):
        # One more for the newline that joins them.
        size_bytes += len(message.text.encode()) + 1
        full = size_bytes > MAX_TURN_BYTES or len(taken) == MAX_TURN_MESSAGES
        if taken and (full or message.alone or taken[-1].alone):
            break
        taken.append(message)
    return tuple(taken)


def input_text(messages: Sequence[NewMessage | PendingMessage]) -> str:
    """Join the texts of one turn by newlines, with a line for each attachment but images."""
    return "\n".join(line for message in messages for line in _lines(message))


def _lines(message: NewMessage | PendingMessage) -> Iterator[str]:
    """Yield the text (`[image]` for images alone), then a line for each other attachment."""
    others = [one for one in message.attachments if not one.is_image]
    if message.text:
        yield message.text
    elif len(others) < len(message.attachments):
        yield "[image]"
    for one in others:
        yield f"[attachment: {one.content_type}]" if one.has_plain_type else "[attachment]"


def input_parts(messages: Sequence[NewMessage | PendingMessage]) -> tuple[dict[str, object], ...]:
    """Build the content parts besides the text: one `input_image` for each image, in order."""
    return tuple(
        {
            "type": "input_image",
            "image_url": one.url or f"data:{one.content_type};base64,{one.data}",
        }
        for message in messages
        for one in message.attachments
        if one.is_image
    )


def user_item(text: str, parts: Sequence[dict[str, object]]) -> dict[str, object]:
    """Build the one user item that a turn sends."""
    # One item however many messages: reconciling counts the user items of a conversation.
    return {"role": "user", "content": [{"type": "input_text", "text": text}, *parts]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A message that waits in the inbox for its `not_before`."""

    inbox_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A committed message, and its place among the user's other messages."""

    id: MessageRowId
    user_id: ChannelUserId
    fresh: bool
    """False = this message_id was accepted before, and nothing changed."""
    conflicting: bool = False
    """The earlier message has another body. It is kept, and the conflict is counted."""
    first_in_line: bool = False
    """No turn is open and nothing waits before it, so the caller may start the turn."""
    due_in_s: float = 0.0
    """When that turn may open, in seconds from now."""
    surplus: bool = False
    """Enough other turns of its sender are due: that turn starts behind those of others."""
    skipped: str | None = None
    """The outcome of a message that is not answered; None = it waits for a turn."""
    consent: LedgerEntry | None = None
    """With it the person has opted out or in; None = nothing changed."""

    @property
    def result(self) -> str:
        """The result as a label of metrics and traces."""
        if self.fresh:
            return "fresh"
        return "conflict" if self.conflicting else "repeated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What became of an envelope."""

    accepted: Accepted | None
    """None = it became a dead letter, or waits for its `not_before`."""
    result: str
    """The result of its task, see `worker.domain.states`."""
