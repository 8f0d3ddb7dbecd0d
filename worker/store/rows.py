"""TODO."""

from typing import Any

from worker.domain.ids import ConversationId, TelnyxConversationId
from worker.domain.messages import Attachment, ChannelAddress
from worker.domain.turns.records import OpenConversation
from worker.store.sql import Row


def address_of(row: Row) -> ChannelAddress:
    """Turn the four columns that name a channel user into their value."""
    return ChannelAddress(
        channel=row.channel, recipient=row.recipient, address=row.address, thread=row.thread
    )


def conversation_value(row: Row) -> OpenConversation:
    """Turn a row of `conversations` into its value."""
    remote = row.telnyx_conversation_id
    return OpenConversation(
        id=ConversationId(row.id),
        agent=row.agent,
        remote_key=row.remote_key,
        telnyx_id=None if remote is None else TelnyxConversationId(remote),
        base_user_messages=row.base_user_messages,
        instructions_hash=row.instructions_hash,
    )


def attachments_of(documents: Any) -> tuple[Attachment, ...]:  # noqa: ANN401 - checked JSON
    """Read what we know of them: producers may write more, and it is kept with the envelope."""
    return tuple(
        Attachment(
            content_type=one["content_type"],
            url=one.get("url"),
            data=one.get("data"),
            name=one.get("name"),
        )
        for one in documents or ()
    )
