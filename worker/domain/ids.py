"""Identifiers: one type per table, so that mypy finds a turn's id in place of a call's."""

import json
from typing import NewType
from uuid import UUID, uuid5

ChannelUserId = NewType("ChannelUserId", int)
MessageRowId = NewType("MessageRowId", int)
"""Our own id of a message; `message_id` is always the channel's."""
TurnId = NewType("TurnId", int)
CallId = NewType("CallId", int)
ReplyId = NewType("ReplyId", int)
DeliveryId = NewType("DeliveryId", int)
ConversationId = NewType("ConversationId", int)
"""Id of our mapping; Telnyx's own id is a `TelnyxConversationId`."""
TelnyxConversationId = NewType("TelnyxConversationId", UUID)
WorkerId = NewType("WorkerId", UUID)
DeadLetterId = NewType("DeadLetterId", int)


def given_id(namespace: UUID, *key: str) -> UUID:
    """Return the id of a message that comes by HTTP: the same for a repetition.

    `key`: channel, recipient, user, thread and message_id.
    """
    return uuid5(namespace, json.dumps(key))


def installation_tag(namespace: UUID) -> UUID:
    """Return a tag for this installation that does not reveal its namespace."""
    return uuid5(namespace, "installation")
