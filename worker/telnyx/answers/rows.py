"""Reads JSON into the values of worker.domain.turns.records; never guesses a value."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from uuid import UUID

from worker.domain.errors import RetryableError, WorkerError
from worker.domain.ids import TelnyxConversationId
from worker.domain.turns.calls import ToolCall
from worker.domain.turns.records import Conversation, ThreadMessage
from worker.net.answer import Answer
from worker.telnyx.answers.answer import read_json, read_object, tool_call


def rows_of(what: str, answer: Answer) -> list[dict[str, object]]:
    """Return the objects of a list, wrapped in `data` or bare."""
    value = read_json(answer.body)
    rows = value.get("data") if isinstance(value, dict) else value
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        return rows
    raise RetryableError(f"{what}: unreadable answer")


def conversation_in(
    what: str, answer: Answer, otherwise: type[WorkerError] = RetryableError
) -> Conversation:
    """Return an answer's conversation, wrapped in `data` or bare; raises if it is unreadable."""
    document = read_object(answer.body) or {}
    wrapped = document.get("data")
    found = conversation_of(wrapped if isinstance(wrapped, dict) else document)
    if found is None:
        raise otherwise(f"{what}: unreadable answer")
    return found


def conversation_of(row: Mapping[str, object]) -> Conversation | None:
    """Return the row's conversation; None if it has no uuid."""
    try:
        found = UUID(str(row.get("id")))
    except ValueError:
        return None
    metadata = row.get("metadata")
    return Conversation(
        id=TelnyxConversationId(found),
        metadata={
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in (metadata if isinstance(metadata, dict) else {}).items()
        },
    )


def message_of(row: Mapping[str, object]) -> ThreadMessage:
    """Return the row's message. RetryableError: its role or text is not as documented."""
    role, text, metadata = row.get("role"), row.get("text"), row.get("metadata")
    if not isinstance(role, str) or not isinstance(text, str | None):
        raise RetryableError("list messages: unreadable answer")
    return ThreadMessage(
        role=role,
        text=text or "",
        created_at=time_of(row.get("created_at")),
        sent_at=time_of(row.get("sent_at")),
        tool_calls=tuple(_tool_calls(row.get("tool_calls"))),
        metadata=metadata if isinstance(metadata, dict) else {},
    )


def in_order(messages: list[ThreadMessage]) -> tuple[ThreadMessage, ...]:
    """Sort by `sent_at`, then `created_at`; ties, and rows without times, keep the list's order.

    A list that comes newest first is reversed before, so that ties come out right too.
    """
    pairs = []
    for message in messages:
        sent_at = message.sent_at or message.created_at
        if sent_at is None:
            return tuple(messages)
        pairs.append(((sent_at, message.created_at or sent_at), message))
    if pairs and _is_newest_first(pairs):
        pairs.reverse()
    return tuple(message for _, message in sorted(pairs, key=lambda pair: pair[0]))


def _is_newest_first(pairs: list[tuple[tuple[datetime, datetime], ThreadMessage]]) -> bool:
    """Compare the times; if they tie (a first turn within one second), the user wrote first."""
    (first, _), (last, _) = pairs[0], pairs[-1]
    if first != last:
        return first > last
    roles = [message.role for _, message in pairs]
    return {"user", "assistant"} <= set(roles) and roles.index("assistant") < roles.index("user")


def _tool_calls(value: object) -> Iterator[ToolCall]:
    for item in value if isinstance(value, list) else []:
        if isinstance(item, dict):
            inner = item.get("function")
            function = inner if isinstance(inner, dict) else item
            yield tool_call(item.get("id"), function.get("name"), function.get("arguments"))


def time_of(value: object) -> datetime | None:
    """Read ISO 8601; without an offset it counts as UTC."""
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
        if parsed is None:
            return None
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


PAGE_SIZE = 100
"""Telnyx's maximum."""
# A server that ignores page numbers must not hold a turn for ever.
_MAX_PAGES = 200
_READINGS = 3


def read_log(read_page: Callable[[int, int], Answer]) -> tuple[ThreadMessage, ...]:
    """Return all messages in order. RetryableError: it changed each time, or is unreadable.

    `read_page` takes a page's number, from 1, and its size.
    """
    for _ in range(_READINGS):
        messages = _read_once(read_page)
        if messages is not None:
            return in_order(messages)
    raise RetryableError("list messages: the log changed while it was read")


def _read_once(read_page: Callable[[int, int], Answer]) -> list[ThreadMessage] | None:
    """Return all messages as listed; None if the log changed meanwhile."""
    messages: list[ThreadMessage] = []
    first_total: int | None = None
    last_page: list[ThreadMessage] = []
    for number in range(1, _MAX_PAGES + 1):
        answer = read_page(number, PAGE_SIZE)
        page, total = list(map(message_of, rows_of("list messages", answer))), total_of(answer)
        if number == 1:
            first_total = total
        if total != first_total:
            return None
        # Without a total: a page like the one before means that the server ignores page numbers.
        if total is None and (not page or page == last_page):
            return messages
        messages += page
        if total is not None and (not page or len(messages) >= total):
            return messages if len(messages) == total else None
        last_page = page
    raise RetryableError(f"list messages: more than {_MAX_PAGES} pages")


def total_of(answer: Answer) -> int | None:
    """Return how many rows there are on all pages; None = the answer does not say it."""
    document = read_object(answer.body)
    meta = None if document is None else document.get("meta")
    total = meta.get("total_results") if isinstance(meta, dict) else None
    return total if isinstance(total, int) and not isinstance(total, bool) else None
