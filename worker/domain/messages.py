"""Inbound messages as the decisions see them, and how several become one user item."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from worker.domain.ids import ChannelUserId, MessageRowId

MAX_TURN_MESSAGES = 20
MAX_TURN_BYTES = 32 * 1024
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelAddress:
    """Who a channel user is: the four things that make one."""

    channel: str
    recipient: str
    address: str
    thread: str


def is_image(content_type: str) -> bool:
    """Whether a model may look at what has this type."""
    return content_type.lower().startswith("image/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """Something sent along. Exactly one of `url` and `data` (base64) is set."""

    content_type: str
    url: str | None = None
    data: str | None = None
    name: str | None = None

    @property
    def is_image(self) -> bool:
        """Whether a model may look at it."""
        return is_image(self.content_type)

    @property
    def has_plain_type(self) -> bool:
        """Whether the type is what RFC 6838 allows, and no words of somebody for the model."""
        return _MEDIA_TYPE.fullmatch(self.content_type) is not None


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
    """How long its turn waits for further messages after this one."""
    max_wait_s: float
    """How long a turn waits at most, from its oldest message on."""
    expires_at: datetime | None
    max_pending: int
    """So many messages of the user may wait; this one is skipped where it would be one more."""
    skip: str | None = None
    """An outcome that the message has from the start, so that nobody answers it."""
    traceparent: str | None = None
    """Which trace its turn and its delivery belong to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingMessage:
    """An accepted message that no turn has taken yet."""

    id: MessageRowId
    agent: str
    text: str
    attachments: tuple[Attachment, ...] = ()
    expires_at: datetime | None = None
    alone: bool = False
    """It was part of a turn that Telnyx refused, and now goes by itself."""
    accepted_at: datetime | None = None
    """None = not asked for."""
    reply_to: str | None = None
    """The route that its reply takes; None = as its channel has it."""
    traceparent: str | None = None
    """The context of its acceptance; None = it was not traced."""

    def goes_with(self, other: "PendingMessage") -> bool:
        """Whether one reply can answer both."""
        return (self.agent, self.reply_to) == (other.agent, other.reply_to)


def next_batch(pending: Sequence[PendingMessage]) -> tuple[PendingMessage, ...]:
    """Take the messages that the next turn answers: a leading run, within bounds.

    All for one agent and one route. `pending` is in order. At most 20 messages and 32 KiB of
    text; a single longer one goes alone.
    """
    taken: list[PendingMessage] = []
    size_bytes = 0
    for message in takewhile(lambda one: one.goes_with(pending[0]), pending):
        size_bytes += len(message.text.encode()) + 1
        full = size_bytes > MAX_TURN_BYTES or len(taken) == MAX_TURN_MESSAGES
        if taken and (full or message.alone or taken[-1].alone):
            break
        taken.append(message)
    return tuple(taken)


def input_text(messages: Sequence[NewMessage | PendingMessage]) -> str:
    """Join the texts of one turn by newlines, with a line for what the model cannot look at."""
    return "\n".join(line for message in messages for line in _lines(message))


def _lines(message: NewMessage | PendingMessage) -> Iterator[str]:
    """Give the text, or what stands for an image alone, and a line for each other attachment."""
    others = [one for one in message.attachments if not one.is_image]
    if message.text:
        yield message.text
    elif len(others) < len(message.attachments):
        yield "[image]"
    for one in others:
        yield f"[attachment: {one.content_type}]" if one.has_plain_type else "[attachment]"


def input_parts(messages: Sequence[NewMessage | PendingMessage]) -> tuple[dict[str, object], ...]:
    """Build the content parts beside the text: one `input_image` for each image, in order."""
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
    return {"role": "user", "content": [{"type": "input_text", "text": text}, *parts]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Where a message stands after `accept`; it is committed."""

    id: MessageRowId
    user_id: ChannelUserId
    fresh: bool
    """False = this message_id had been accepted before, and nothing changed."""
    conflicting: bool = False
    """The earlier one has another body; it stands, and the conflict is counted."""
    first_in_line: bool = False
    """No turn is open and nothing waits before it: whoever accepted it may start the turn."""
    due_in_s: float = 0.0
    """When that turn may open."""

    @property
    def result(self) -> str:
        """What became of the envelope, in the words of metrics and traces."""
        if self.fresh:
            return "fresh"
        return "conflict" if self.conflicting else "repeated"
