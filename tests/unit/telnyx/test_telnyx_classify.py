"""The table of outcomes, line by line, and that no bytes at all can break it."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from worker.domain.turns.calls import CallOutcome, Done, Fault, Refused, ToolCall, Unknown
from worker.net.answer import Answer
from worker.telnyx.answers.classify import classify

NOW = datetime(2026, 10, 22, 12, 0, tzinfo=UTC)
TELNYX = {"errors": [{"code": "10015", "title": "Bad request"}]}
HTML = b"<html><h1>502 Bad Gateway</h1></html>"


def judge(status: int, body: object = b"", **headers: str) -> CallOutcome:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lower = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify(Answer(status=status, headers=lower, body=raw), now=NOW)


def with_code(code: object) -> dict[str, object]:
    return {"errors": [{"code": code, "title": "t", "detail": "d"}]}


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (301, b"", Fault.ACCOUNT),
        (307, HTML, Fault.ACCOUNT),
        (400, TELNYX, Fault.REQUEST),
        (400, HTML, Fault.REQUEST),
        (400, with_code("20100"), Fault.ACCOUNT),
        (401, with_code("10009"), Fault.ACCOUNT),
        (402, b"", Fault.ACCOUNT),
        (403, HTML, Fault.REQUEST),
        (404, b"", Fault.REQUEST),
        (413, b"", Fault.REQUEST),
        (422, {"detail": [{"msg": "m"}]}, Fault.REQUEST),
        (422, with_code(20012), Fault.ACCOUNT),
        (429, b"", Fault.RATE),
        (429, with_code("10011"), Fault.RATE),
        (429, with_code("20100"), Fault.ACCOUNT),
        (500, TELNYX, Fault.SERVER),
        (500, {"detail": "Internal Server Error"}, Fault.SERVER),
        (503, {"error": {"message": "m", "code": "overloaded"}}, Fault.SERVER),
        (503, with_code("20002"), Fault.ACCOUNT),
    ],
)
def test_a_complete_no_is_refused(status: int, body: object, fault: Fault) -> None:
    outcome = judge(status, body)
    assert isinstance(outcome, Refused)
    assert (outcome.status, outcome.fault) == (status, fault)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (101, b""),
        (200, b""),
        (200, HTML),
        (200, b'{"output": [], "status": "comp'),
        (200, b"[]"),
        (200, b'"completed"'),
        (200, b"null"),
        (200, {}),
        (200, TELNYX),
        (200, b"data: [DONE]\n\n"),
        (200, b"[" * 100_000),
        (200, {"status": "queued", "output": []}),
        (202, {"status": "in_progress", "output": []}),
        (204, b""),
        (408, TELNYX),
        (409, TELNYX),
        (409, with_code("20100")),
        (504, TELNYX),
        (504, {"detail": "Gateway Timeout"}),
        (504, with_code("20100")),
        (400, with_code("10008")),
        (429, with_code("10008")),
        (500, with_code(10008)),
        (503, {"error": {"message": "m", "code": "10008"}}),
        (500, b""),
        (500, b"{}"),
        (500, {"message": "An invalid response was received from the upstream server"}),
        (500, {"error": "upstream timeout"}),
        (500, {"errors": []}),
        (502, HTML),
        (503, b"no healthy upstream"),
        (504, {"detail": ""}),
        (600, TELNYX),
    ],
)
def test_what_is_no_verdict_is_unknown(status: int, body: object) -> None:
    outcome = judge(status, body, x_request_id="req-1")
    assert isinstance(outcome, Unknown)
    assert (outcome.status, outcome.request_id) == (status, "req-1")


def test_a_response_gives_text_calls_and_usage_and_keeps_its_items() -> None:
    output = [
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hmm"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "Hello"},
                {"type": "output_text", "text": ", world."},
            ],
        },
        {"type": "message", "role": "assistant", "content": "Bye."},
        {"type": "message", "role": "user", "content": "What he asked."},
        {"type": "function_call", "id": "fc", "call_id": "c1", "name": "f", "arguments": "{"},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": {"a": 1}},
        {"type": "function_call", "name": "nothing to answer to"},
        "no object",
    ]
    body = {
        "id": "resp_1",
        "status": "completed",
        "output": output,
        "usage": {"input_tokens": 3, "output_tokens": 10**30},
    }
    assert judge(200, body, x_request_id="r") == Done(
        status="completed",
        text="Hello, world.\nBye.",
        tool_calls=(
            ToolCall(call_id="c1", name="f", arguments="{"),
            ToolCall(call_id="c2", name="g", arguments='{"a": 1}'),
            ToolCall(call_id="", name="nothing to answer to", arguments=""),
        ),
        response_id="resp_1",
        request_id="r",
        output=tuple(item for item in output if isinstance(item, dict)),
        input_tokens=3,
        output_tokens=2**31 - 1,
    )


@pytest.mark.parametrize(
    ("count", "tokens"), [(0, 0), (-1, 0), (True, 0), (1.5, 0), ("3", 0), (None, 0), (7, 7)]
)
def test_tokens_are_whole_numbers_or_none(count: object, tokens: int) -> None:
    outcome = judge(200, {"output": [], "usage": {"output_tokens": count}})
    assert isinstance(outcome, Done)
    assert (outcome.input_tokens, outcome.output_tokens) == (0, tokens)


def test_a_response_wrapped_in_data_is_read_as_well() -> None:
    outcome = judge(200, {"data": {"status": "completed", "output": []}})
    assert outcome == Done(status="completed", text="")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"output": []}, "completed"),
        ({"output": [], "error": {"message": "m"}}, "failed"),
        ({"status": "failed", "error": {"message": "m"}}, "failed"),
        ({"status": "cancelled", "output": None}, "cancelled"),
    ],
)
def test_the_status_is_the_bodys_own(body: object, status: str) -> None:
    outcome = judge(200, body)
    assert isinstance(outcome, Done)
    assert outcome.status == status


def test_an_incomplete_response_says_why() -> None:
    details = {"reason": "max_output_tokens"}
    outcome = judge(200, {"status": "incomplete", "incomplete_details": details, "output": []})
    assert isinstance(outcome, Done)
    assert (outcome.status, outcome.incomplete_reason) == ("incomplete", "max_output_tokens")


def test_a_refusal_of_the_model_is_no_text() -> None:
    parts = [{"type": "refusal", "refusal": "I would rather not."}]
    outcome = judge(200, {"status": "completed", "output": [{"type": "message", "content": parts}]})
    assert isinstance(outcome, Done)
    assert outcome.text == ""


def test_what_postgres_cannot_store_does_not_come_in() -> None:
    body = (
        rb'{"status":"completed","k\u0000":[],"output":[{"type":"message","k\u0000":1,'
        rb'"content":'
        rb'[{"type":"output_text","text":"a\u0000b\ud83dc\ud83d\ude00' + b'\xff"}]}]}'
    )
    outcome = judge(200, body)
    assert isinstance(outcome, Done)
    assert outcome.text == "a\ufffdb\ufffdc\U0001f600\ufffd"
    text = json.dumps(outcome.output, allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in text
    assert text.encode()


def test_numbers_that_are_not_finite_become_null() -> None:
    outcome = judge(200, b'{"output":[{"a":NaN,"b":1e999,"c":-Infinity,"d":1.5}]}')
    assert isinstance(outcome, Done)
    assert outcome.output == ({"a": None, "b": None, "c": None, "d": 1.5},)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (with_code("10015"), "10015"),
        (with_code(10015), "10015"),
        ({"error": {"code": "context_length_exceeded"}}, "context_length_exceeded"),
        (with_code("Dear Mr. Miller, your order"), None),
        ({"detail": "text"}, None),
        (b"", None),
    ],
)
def test_the_code_is_a_slug_or_nothing(body: object, code: str | None) -> None:
    outcome = judge(400, body)
    assert isinstance(outcome, Refused)
    assert outcome.code == code


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.5 ", "x-ratelimit-reset": "9"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "999999999"}, 3600.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan", "x-ratelimit-reset": "3"}, 3.0),
        ({"retry-after": "Thu, 22 Oct 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 22 Oct 2026 11:00:00 GMT"}, 0.0),
        (
            {
                "retry-after": "Thu, 22 Oct 2026 15:00:30 GMT",
                "date": "Thu, 22 Oct 2026 15:00:10 GMT",
            },
            20.0,
        ),
        ({"x-ratelimit-reset": "1"}, 1.0),
        ({"x-ratelimit-reset": "2, 2;w=1"}, 2.0),
        ({"x-ratelimit-reset": "500ms"}, 0.5),
        ({"x-ratelimit-reset": "1m30s"}, 90.0),
        ({"x-ratelimit-reset": "1.5"}, 1.5),
        ({"x-ratelimit-reset": "1.5s"}, 1.5),
        ({"x-ratelimit-reset": "0h6m0.25s"}, 360.25),
        ({"x-ratelimit-reset": "250us"}, 0.00025),
        ({"x-ratelimit-reset": "30 s"}, 30.0),
        ({"x-ratelimit-reset": "20ms;w=60"}, 0.02),
        ({"x-ratelimit-reset": f"{NOW.timestamp() + 12:.0f}"}, 12.0),
        ({"x-ratelimit-reset": f"{(NOW.timestamp() + 12) * 1000:.0f}"}, 12.0),
        ({"x-ratelimit-reset": f"{NOW.timestamp() + 12:.2f}"}, 12.0),
        ({"x-ratelimit-reset": f"{NOW.timestamp() - 12:.0f}"}, 0.0),
        ({"x-ratelimit-reset": "2026-10-22T12:00:45Z"}, 45.0),
        ({"x-ratelimit-reset": "2026-10-22T14:00:45+02:00"}, 45.0),
        ({"x-ratelimit-reset": "Thu, 22 Oct 2026 12:00:50 GMT"}, 50.0),
        ({"ratelimit-reset": "8"}, 8.0),
        ({"x-ratelimit-reset": "2h"}, None),
        ({"x-ratelimit-reset": "7200"}, None),
        *(({"x-ratelimit-reset": text}, None) for text in ("", "-1", "5x", "m5", "ms", "1e3", ";")),
        ({"retry-after": "500ms"}, 0.5),
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": f"{NOW.timestamp() + 12:.0f}"}, 12.0),
        ({"retry-after": "2h"}, 3600.0),
        ({"x-ratelimit-reset": "soon"}, None),
    ],
)
def test_the_wait_is_read_where_it_is_said(
    headers: dict[str, str], expected_s: float | None
) -> None:
    outcome = classify(Answer(status=429, headers=headers), now=NOW)
    assert isinstance(outcome, Refused)
    assert outcome.retry_after_s == expected_s


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
names = ["id", "status", "output", "data", "error", "errors", "detail", "usage", "type", "role"]
names += ["content", "text", "call_id", "name", "arguments", "code", "incomplete_details"]
names += ["reason", "input_tokens"]
words = st.sampled_from(["message", "output_text", "function_call", "refusal", "queued"])
responses = st.recursive(
    json_values | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(names), inner),
    max_leaves=25,
)
bodies = st.binary() | responses.map(lambda value: json.dumps(value).encode())
headers = st.dictionaries(
    st.sampled_from(["retry-after", "date", "x-ratelimit-reset", "x-request-id"]),
    st.text() | st.sampled_from(["1e5", "\u0663", "Fri, 31 Dec 9999 23:59:59 -2359", "٣"]),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(status=st.integers(100, 999), headers=headers, body=bodies)
@example(status=429, headers={"retry-after": "Fri, 31 Dec 9999 23:59:59 -2359"}, body=b"")
@example(status=429, headers={"retry-after": "\u0663"}, body=b"")
@example(status=200, headers={}, body=b'{"output":[],"status":[]}')
@example(status=200, headers={}, body=b'{"output":[],"status":""}')
@example(status=200, headers={}, body=b'{"output":[{"content":[{"type":{}}]}]}')
def test_nothing_that_arrives_raises_and_all_of_it_can_be_stored(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    outcome = classify(Answer(status=status, headers=headers, body=body), now=NOW)
    if isinstance(outcome, Done):
        assert 200 <= status < 300
        stored = json.dumps(outcome.output, allow_nan=False, ensure_ascii=False)
        assert stored.encode()
        assert "\\u0000" not in stored
        assert "\x00" not in outcome.text + (outcome.incomplete_reason or "") + outcome.status
        (outcome.text + outcome.status).encode()  # half of a surrogate pair would raise
    if isinstance(outcome, Refused):
        assert status not in {408, 409, 504}
        assert outcome.code != "10008"
        assert outcome.retry_after_s is None or 0 <= outcome.retry_after_s <= 3600


@pytest.mark.parametrize(
    ("plain", "items"),
    [
        (True, [{"type": "message", "content": [{"type": "output_text", "text": "good day"}]}]),
        (True, [{"type": "message", "content": [{"type": "output_text", "annotations": []}]}]),
        (False, [{"type": "message", "content": [{"type": "output_text", "annotations": ["x"]}]}]),
        (False, [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]),
        (False, [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text"}]}]),
        (False, []),
    ],
)
def test_an_answer_that_is_only_one_text_is_recognised(
    plain: bool, items: list[dict[str, object]]
) -> None:
    assert Done(status="completed", text="", output=tuple(items)).is_plain_text is plain
