"""The fields of a message for type checkers; docs/reference/envelope.md describes them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NotRequired, Required, TypedDict


class AttachmentFields(TypedDict, total=False):
    """Something sent along: exactly one of `url` and `data`."""

    content_type: Required[str]
    url: str
    data: str
    """base64"""
    name: str


class MessageFields(TypedDict, total=False):
    """One message for `Producer.send_many`; a whole envelope is one too."""

    channel: Required[str]
    user: Required[str]
    message_id: Required[str]
    text: Required[str]
    version: NotRequired[int]
    recipient: str
    thread: str
    agent: str | None
    sent_at: datetime | str | None
    """Aware, or RFC 3339 with an offset."""
    expires_at: datetime | str | None
    signals: Sequence[str]
    attachments: Sequence[AttachmentFields]
    reply_to: str | None
    metadata: Mapping[str, str]
