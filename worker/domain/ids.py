"""Identifiers: one type per table, so that a turn's id never stands where a call's belongs."""

from typing import NewType
from uuid import UUID

ChannelUserId = NewType("ChannelUserId", int)
MessageRowId = NewType("MessageRowId", int)
"""Our own id of a message; `message_id` is always the channel's."""
TurnId = NewType("TurnId", int)
CallId = NewType("CallId", int)
ReplyId = NewType("ReplyId", int)
DeliveryId = NewType("DeliveryId", int)
ConversationId = NewType("ConversationId", int)
"""Our mapping's id; Telnyx's own is a `TelnyxConversationId`."""
TelnyxConversationId = NewType("TelnyxConversationId", UUID)
WorkerId = NewType("WorkerId", UUID)
DeadLetterId = NewType("DeadLetterId", int)
