"""A conversation's whole log, read page by page while others may be writing to it.

Messages have no ids, so pages that shifted meanwhile cannot be repaired by dropping repeats.
A reading counts if `meta.total_results` is the same on all pages and equals the number of messages
read; else the log is read again.
"""

from collections.abc import Callable
from typing import TypeAlias

from worker.domain.errors import RetryableError
from worker.domain.turns.thread import ThreadMessage
from worker.net.answer import Answer
from worker.telnyx.answers.answer import read_object
from worker.telnyx.answers.rows import in_order, message_of, rows_of, unreadable

PAGE_SIZE = 100
"""Telnyx's maximum."""
# A server that ignores page numbers must not hold a turn for ever.
_MAX_PAGES = 200
_READINGS = 3

ReadPage: TypeAlias = Callable[[int, int], Answer]
"""(number from 1, size) -> the 2xx answer."""


def read_log(read_page: ReadPage) -> tuple[ThreadMessage, ...]:
    """Return all messages in order. RetryableError: it changed each time, or is unreadable."""
    for _ in range(_READINGS):
        messages = _read_once(read_page)
        if messages is not None:
            return in_order(messages)
    raise RetryableError("list messages: the log changed while it was read")


def _read_once(read_page: ReadPage) -> list[ThreadMessage] | None:
    """Return all messages as listed; None if the log changed meanwhile."""
    messages: list[ThreadMessage] = []
    first_total: int | None = None
    last_page: list[ThreadMessage] = []
    for number in range(1, _MAX_PAGES + 1):
        answer = read_page(number, PAGE_SIZE)
        page, total = _messages_of(answer), _total(answer)
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


def _messages_of(answer: Answer) -> list[ThreadMessage]:
    messages = [message_of(row) for row in rows_of("list messages", answer)]
    if None in messages:
        raise unreadable("list messages", answer)
    return [message for message in messages if message is not None]


def _total(answer: Answer) -> int | None:
    document = read_object(answer.body)
    meta = None if document is None else document.get("meta")
    total = meta.get("total_results") if isinstance(meta, dict) else None
    return total if isinstance(total, int) and not isinstance(total, bool) else None
