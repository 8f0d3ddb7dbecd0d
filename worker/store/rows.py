"""Rows that several stores read or insert."""

from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from worker.domain.messages import Attachment, ChannelAddress, NewMessage
from worker.store.sql import Row

Value = TypeVar("Value")

CONVERSATION = """id, agent, remote_key, telnyx_conversation_id AS telnyx_id, base_user_messages,
    instructions_hash"""
"""The columns of an `OpenConversation`."""
PENDING = "state = 'pending' AND turn_id IS NULL AND dropped_at IS NULL"
"""Messages that wait for a turn. `ix_messages_waiting` does not know the state, so that the end of
a turn, which changes it, leaves the row in all of its indexes."""
OPEN_TURNS = """
    SELECT t.id, t.channel_user_id FROM (
        SELECT open_turn_id AS id FROM channel_users
        WHERE due_at IS NOT NULL AND open_turn_id IS NOT NULL
        UNION SELECT turn_id FROM calls WHERE state = 'intended') AS one,
        LATERAL (SELECT id, channel_user_id FROM turns
            WHERE id = one.id AND state = 'open' OFFSET 0) AS t"""
"""The open turns: of users who are due, and of those whom the fast path answers. OFFSET 0: without
it the planner would read all turns."""
IS_ERASING = """EXISTS (SELECT FROM erasures e
        WHERE e.channel_user_id = u.id AND e.finished_at IS NULL)"""
"""Whether an erasure of the channel user `u` has begun and not finished."""
IS_DIVERGED = f"u.due_at IS NOT NULL AND u.diverged_at IS NOT NULL AND NOT {IS_ERASING}"
"""Whether an operator has to decide about the channel user `u`. `due_at`: the index has it."""
INBOX_IS_DUE = "coalesce(not_before, '-infinity') <= service_now()"
"""Whether a row of the inbox may be accepted now; `ix_inbox_due` is in this order."""

NOTICE = """told AS (
    INSERT INTO channel_users AS u (channel, address)
    SELECT :route, CAST(mod(abs(CAST(hashtext(:place) AS bigint)), 64) AS text)
    WHERE CAST(:route AS text) IS NOT NULL
    ON CONFLICT (channel, recipient, address, thread) DO UPDATE SET agent = u.agent
    RETURNING u.id
), notice AS (
    INSERT INTO deliveries (channel_user_id, channel, due_at)
    SELECT id, :route, service_now() FROM told RETURNING id
)"""
"""The CTE `notice`: a delivery that tells a route something, if :route is not NULL.

It is delivered like a reply, in the order of its channel user: of one of 64 of the route, chosen by
:place, so that one that its receiver does not take holds up few others.
"""

PLACE_IN_ORDER = "least(CAST(:sent_at AS timestamptz), service_clock())"
"""The sort key of a message that is being accepted.

Read it once the user's row is locked: `service_now()` is the time at which the statement came, and
of two that came at once the later one may get the lock, and its `seq`, first.
"""


def reply_with_delivery(
    *,
    first_state: str,
    beside: str = "",
    key: str = "gen_random_uuid()",
    exempt_until: str = "NULL",
    held_for: str = "NULL",
    held_until: str = "NULL",
    approved_state: str = "NULL",
) -> str:
    """Return the CTEs `reply` and `delivery`: a reply to the CTE `turn`, and its delivery.

    They take :user_id, :text, :source and :channel. The other arguments are SQL: the state that the
    delivery starts with, a CTE that this expression reads, the idempotency key, until when it may
    go out to somebody who has opted out, and of a draft why and until when it is held, and its
    state once it is approved.
    """
    return f"""
, reply AS (
    INSERT INTO replies (turn_id, text, source, created_at)
    SELECT id, :text, :source, service_now() FROM turn RETURNING id
), delivery AS (
    INSERT INTO deliveries (reply_id, channel_user_id, channel, idempotency_key, state, due_at,
        finished_at, exempt_until, held_for, approved_state, created_at)
    SELECT reply.id, :user_id, :channel, {key}, first.state,
        CASE first.state WHEN 'pending' THEN service_now() WHEN 'held' THEN {held_until} END,
        CASE WHEN first.state NOT IN ('pending', 'held') THEN service_now() END, {exempt_until},
        CASE WHEN first.state = 'held' THEN {held_for} END,
        CASE WHEN first.state = 'held' THEN {approved_state} END, service_now()
    FROM reply{beside}, LATERAL (SELECT {first_state} AS state) AS first
    RETURNING id, state
)"""


def address_of(row: Row) -> ChannelAddress:
    """Return the channel user whom the four columns name."""
    return ChannelAddress(
        channel=row.channel, recipient=row.recipient, address=row.address, thread=row.thread
    )


def values_of_message(message: NewMessage, traceparent: str | None) -> dict[str, object]:
    """Return the values with which a message is inserted."""
    return {
        "channel": message.who.channel,
        "recipient": message.who.recipient,
        "address": message.who.address,
        "thread": message.who.thread,
        "message_id": message.message_id,
        "group": message.group,
        "surplus": message.surplus,
        "agent": message.agent,
        "envelope": message.envelope,
        "sent_at": message.sent_at,
        "expires_at": message.expires_at,
        "traceparent": traceparent,
        "task_id": message.task_id,
    }


def attachments_of(documents: Any) -> tuple[Attachment, ...]:  # noqa: ANN401 - checked JSON
    """Return the fields we know; producers may write more, which the envelope keeps."""
    known = _kinds(Attachment)
    return tuple(
        Attachment(**{name: one[name] for name in known if name in one}) for one in documents or ()
    )


def value_of(value: type[Value], row: Row, **more: object) -> Value:
    """Build a value from the columns that have the names of its fields; `more` adds to them.

    Raises `TypeError` if a field without a default has no column, and `ValueError` if a column
    holds a string that its enum does not know.
    """
    columns = row._asdict() | more
    found = {}
    for name, kind in _kinds(value).items():  # type: ignore[arg-type] # hashable
        if name in columns:
            column = columns[name]
            found[name] = column if kind is None or column is None else kind(column)
    return value(**found)


@cache
def _kinds(value: type[object]) -> Mapping[str, type[Enum] | type[tuple[object, ...]] | None]:
    """Return the enum of each field whose column is text, and `tuple` if it is an array."""
    hints = get_type_hints(value)
    return {one.name: _kind(hints[one.name]) for one in fields(value)}  # type: ignore[arg-type]


def _kind(hint: Any) -> type[Enum] | type[tuple[object, ...]] | None:  # noqa: ANN401 - a type hint
    if get_origin(hint) is tuple:
        return tuple
    kinds = (one for one in (hint, *get_args(hint)) if isinstance(one, type))
    return next((one for one in kinds if issubclass(one, Enum)), None)
