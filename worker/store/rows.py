"""Rows that several stores read or insert."""

from typing import Any

from worker.domain.ids import ConversationId, TelnyxConversationId
from worker.domain.messages import Attachment, ChannelAddress
from worker.domain.turns.records import OpenConversation
from worker.store.sql import Row


def reply_with_delivery(
    *, first_state: str, beside: str = "", key: str = "gen_random_uuid()"
) -> str:
    """Return the CTEs `reply` and `delivery`: a reply to the CTE `turn`, and its delivery.

    They take :user_id, :text, :source and :channel. The other arguments are SQL: the state that the
    delivery starts with, a CTE that this expression reads, and the idempotency key.
    """
    return f"""
, reply AS (
    INSERT INTO replies (turn_id, text, source, created_at)
    SELECT id, :text, :source, service_now() FROM turn RETURNING id
), delivery AS (
    INSERT INTO deliveries (reply_id, channel_user_id, channel, idempotency_key, state, due_at,
        finished_at, created_at)
    SELECT reply.id, :user_id, :channel, {key}, first.state,
        CASE WHEN first.state = 'pending' THEN service_now() END,
        CASE WHEN first.state <> 'pending' THEN service_now() END, service_now()
    FROM reply{beside}, LATERAL (SELECT {first_state} AS state) AS first
    RETURNING id, state
)"""


def address_of(row: Row) -> ChannelAddress:
    """Return the channel user whom the four columns name."""
    return ChannelAddress(
        channel=row.channel, recipient=row.recipient, address=row.address, thread=row.thread
    )


def conversation_value(row: Row) -> OpenConversation:
    """Return the value of a row of `conversations`."""
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
    """Return the fields we know; producers may write more, which the envelope keeps."""
    return tuple(
        Attachment(
            content_type=one["content_type"],
            url=one.get("url"),
            data=one.get("data"),
            name=one.get("name"),
        )
        for one in documents or ()
    )
