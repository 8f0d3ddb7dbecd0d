"""The log of a conversation: whole, in order, and read while it grows."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.errors import RetryableError
from worker.domain.turns.calls import ToolCall
from worker.domain.turns.records import ThreadMessage
from worker.net.answer import Answer
from worker.telnyx.answers.rows import in_order, message_of, read_log

Row = dict[str, object]


def row(text: str, second: int = 0, role: str = "user") -> Row:
    at = f"2026-10-21T13:{second // 60:02}:{second % 60:02}Z"
    return {"role": role, "text": text, "created_at": at, "sent_at": at}


def answer(rows: list[Row], meta: object) -> Answer:
    body = {"data": rows} if meta is None else {"data": rows, "meta": meta}
    return Answer(status=200, headers={}, body=json.dumps(body).encode())


def _stays(_number: int, /) -> None:
    pass


class Listing:
    """A log as Telnyx pages it; `growing` is called before each page."""

    def __init__(self, rows: list[Row], *, meta: bool = True, most: int = 100) -> None:
        self.rows, self.meta, self.most = rows, meta, most
        self.pages_read: list[int] = []
        self.growing = _stays

    def read(self, number: int, size: int) -> Answer:
        self.growing(number)
        self.pages_read.append(number)
        size = min(size, self.most)
        meta = {"total_results": len(self.rows)} if self.meta else None
        return answer(self.rows[(number - 1) * size : number * size], meta)


def texts(listing: Listing) -> list[str]:
    return [message.text for message in read_log(listing.read)]


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("most", [100, 30])
@pytest.mark.parametrize("count", [0, 1, 29, 30, 60, 99, 100, 101, 250])
def test_all_pages_are_read(count: int, most: int, meta: bool) -> None:
    listing = Listing([row(str(n), n) for n in range(count)], meta=meta, most=most)
    assert texts(listing) == [str(n) for n in range(count)]


def test_a_short_log_with_a_count_is_one_request() -> None:
    listing = Listing([row("a")])
    read_log(listing.read)
    assert listing.pages_read == [1]


def test_a_log_that_is_always_listed_whole_is_read_once() -> None:
    rows = [row("a", 0), row("b", 1)]
    messages = read_log(lambda _number, _size: answer(rows, None))
    assert [message.text for message in messages] == ["a", "b"]


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_log_that_grew_between_two_pages_is_read_again(newest_first: bool) -> None:
    rows = [row(str(n), n) for n in range(150)]
    listing = Listing(rows[::-1] if newest_first else rows)

    def grow(number: int) -> None:
        if number == 2 and len(listing.rows) == 150:
            listing.rows.insert(0 if newest_first else 150, row("150", 150))

    listing.growing = grow
    assert texts(listing) == [str(n) for n in range(151)]
    assert listing.pages_read == [1, 2, 1, 2]


def test_a_log_that_never_holds_still_is_given_up_for_now() -> None:
    listing = Listing([row(str(n), n) for n in range(150)])
    listing.growing = lambda _number: listing.rows.append(row("more"))
    with pytest.raises(RetryableError, match="changed"):
        read_log(listing.read)


def test_a_log_with_fewer_messages_than_counted_is_given_up_for_now() -> None:
    with pytest.raises(RetryableError, match="changed"):
        read_log(lambda n, _size: answer([row("a")] if n == 1 else [], {"total_results": 2}))


def test_pages_that_never_end_are_given_up() -> None:
    with pytest.raises(RetryableError, match="pages"):
        read_log(lambda number, _size: answer([row(str(number))], None))


@pytest.mark.parametrize(
    "bad", [{"role": None, "text": "a"}, {"text": "a"}, {"role": "user", "text": ["a"]}, "a", None]
)
def test_a_row_that_cannot_be_read_is_not_passed_over(bad: object) -> None:
    body = json.dumps({"data": [row("a"), bad], "meta": {"total_results": 2}}).encode()
    with pytest.raises(RetryableError, match="unreadable"):
        read_log(lambda _number, _size: Answer(status=200, headers={}, body=body))


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"data": {}}', b"null", b"[1]"])
def test_an_answer_that_cannot_be_read_is_asked_for_again(body: bytes) -> None:
    with pytest.raises(RetryableError, match="unreadable"):
        read_log(lambda _number, _size: Answer(status=200, headers={}, body=body))


def test_a_message_is_read_with_its_calls_and_metadata() -> None:
    function = {"name": "f", "arguments": '{"a":1}'}
    assert message_of(
        {
            "role": "assistant",
            "text": None,
            "created_at": "2026-10-21T13:09:01",
            "sent_at": "2026-10-21T15:09:00.5+02:00",
            "tool_calls": [{"id": "c", "type": "function", "function": function}, "?"],
            "metadata": {"ours": True},
        }
    ) == ThreadMessage(
        role="assistant",
        text="",
        created_at=datetime(2026, 10, 21, 13, 9, 1, tzinfo=UTC),
        sent_at=datetime(2026, 10, 21, 13, 9, 0, 500_000, tzinfo=UTC),
        tool_calls=(ToolCall(call_id="c", name="f", arguments='{"a":1}'),),
        metadata={"ours": True},
    )


def message(
    text: str, sent: int | None, created: int | None = None, role: str = ""
) -> ThreadMessage:
    def at(second: int | None) -> datetime | None:
        return None if second is None else datetime.fromtimestamp(second, UTC)

    return ThreadMessage(role=role, text=text, sent_at=at(sent), created_at=at(created))


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ([message("b", 2, 1), message("a", 1, 2)], "ab"),
        ([message("b", 1, 2), message("a", 1, 1)], "ab"),
        ([message("a", 1, 1), message("b", 1, 1), message("c", 2, 2)], "abc"),
        ([message("c", 2, 2), message("b", 1, 1), message("a", 1, 1)], "abc"),
        ([message("b", None, 2), message("a", 1, None)], "ab"),
        ([message("b", 2), message("a", None), message("c", 1)], "bac"),
        ([message("b", 1, role="assistant"), message("a", 1, role="user")], "ab"),
        ([message("a", 1, role="user"), message("b", 1, role="assistant")], "ab"),
        ([message("a", 1, role="user"), message("b", 1, role="user")], "ab"),
        ([], ""),
    ],
)
def test_messages_come_in_the_order_in_which_they_were_sent(
    listed: list[ThreadMessage], expected: str
) -> None:
    assert "".join(message.text for message in in_order(listed)) == expected


times = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=8)


@settings(deadline=None)
@given(times)
def test_sorting_loses_nothing_and_sorts(pairs: list[tuple[int, int]]) -> None:
    listed = [message(str(n), sent, created) for n, (sent, created) in enumerate(pairs)]
    ordered = in_order(listed)
    assert sorted(m.text for m in ordered) == sorted(m.text for m in listed)
    keys = [(m.sent_at, m.created_at) for m in ordered]
    assert keys == sorted(keys)
