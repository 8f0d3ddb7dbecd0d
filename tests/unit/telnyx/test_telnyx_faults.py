"""Which error an answer becomes: the tree's one question, for reading and for writing calls."""

import json
import pickle
from datetime import UTC, datetime

import pytest

from worker.domain.errors import (
    ConflictError,
    NotFoundError,
    OperatorError,
    OutcomeUnknownError,
    PermanentError,
    RetryableError,
    WorkerError,
)
from worker.net.answer import Answer
from worker.telnyx.answers.classify import error_of_answer

NOW = datetime(2026, 10, 22, 12, 0, tzinfo=UTC)
HTML = b"<html>"


def errors_of(status: int, body: object = b"", **headers: str) -> tuple[WorkerError, WorkerError]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lower = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = Answer(status=status, headers=lower, body=raw)
    reading = error_of_answer("do it", answer, writes=False, now=NOW)
    return reading, error_of_answer("do it", answer, writes=True, now=NOW)


def with_code(code: str) -> dict[str, object]:
    return {"errors": [{"code": code, "title": "Title", "detail": "Detail"}]}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (302, b"", OperatorError),
        (401, b"", OperatorError),
        (402, b"", OperatorError),
        (403, HTML, PermanentError),
        (400, with_code("20100"), OperatorError),
        (404, with_code("20012"), OperatorError),
        (500, with_code("20002"), OperatorError),
        (422, with_code("10010"), OperatorError),
        (400, with_code("10015"), PermanentError),
        (404, b"", NotFoundError),
        (404, {"detail": "Conversation Not Found"}, NotFoundError),
        (410, b"", NotFoundError),
        (409, b"", RetryableError),
        (413, b"", PermanentError),
        (422, {"detail": [{"loc": ["body"], "msg": "m", "type": "t"}]}, PermanentError),
        (422, with_code("10027"), ConflictError),
        (422, {"detail": "other body"}, ConflictError),
        (429, b"", RetryableError),
    ],
)
def test_a_verdict_is_the_same_for_reading_and_writing(
    status: int, body: object, kind: type[WorkerError]
) -> None:
    assert [type(error) for error in errors_of(status, body)] == [kind, kind]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (101, b""),
        (404, HTML),
        (408, b""),
        (400, with_code("10008")),
        (410, b" \n<!doctype html>"),
        (500, with_code("10007")),
        (502, HTML),
        (503, b""),
        (504, b"x"),
        (600, b""),
    ],
)
def test_no_verdict_may_be_asked_for_again_but_not_done_again(status: int, body: object) -> None:
    assert [type(error) for error in errors_of(status, body)] == [
        RetryableError,
        OutcomeUnknownError,
    ]


def test_the_error_says_how_long_to_wait_and_where_it_came_from() -> None:
    error, _ = errors_of(429, with_code("10011"), retry_after="7")
    assert isinstance(error, RetryableError)
    assert error.retry_after_s == 7.0
    assert error.code == "10011"
    assert str(error) == "do it: status 429, code 10011"


def test_an_error_survives_pickling() -> None:
    error, _ = errors_of(429, with_code("10011"), retry_after="7")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 our own
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
