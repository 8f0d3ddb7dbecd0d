"""Rows that several stores read or insert."""

from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from worker.domain.ids import ConversationId, TelnyxConversationId
from worker.domain.messages import Attachment, ChannelAddress
from worker.domain.turns.records import OpenConversation
from worker.store.sql import Row

Value = TypeVar("Value")


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


def value_of(value: type[Value], row: Row, **more: object) -> Value:
    """Build a value from the columns that have the names of its fields; `more` adds to them.

    Raises `TypeError` if a field without a default has no column, and `ValueError` if a column
    holds a string that its enum does not know.
    """
    columns, enums = row._asdict() | more, _enums(value)  # type: ignore[arg-type] # hashable
    names = [one.name for one in fields(value) if one.name in columns]  # type: ignore[arg-type]
    found = {name: columns[name] for name in names}
    kinds = ((name, enums[name]) for name in names if name in enums)
    found |= {name: kind(found[name]) for name, kind in kinds if found[name] is not None}
    return value(**found)


@cache
def _enums(value: type[object]) -> Mapping[str, type[Enum]]:
    """Return the fields that hold an enum, whose columns are text; its ids are plain numbers."""
    return {
        name: kind
        for name, hint in get_type_hints(value).items()
        for kind in (hint, *get_args(hint))
        if isinstance(kind, type) and issubclass(kind, Enum)
    }
