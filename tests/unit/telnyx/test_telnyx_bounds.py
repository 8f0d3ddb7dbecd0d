"""An answer or a stream of any kind takes a bounded amount of memory."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from worker.domain.turns.calls import Done, Unknown
from worker.net.answer import Answer
from worker.net.window import CallWindow
from worker.telnyx.answers.answer import MAX_ANSWER_BYTES
from worker.telnyx.answers.classify import classify
from worker.telnyx.streaming.stream import read_streamed

NOW = datetime(2026, 11, 30, tzinfo=UTC)
MB = 1024 * 1024


def peak_mb(work: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / MB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("piece", ["{}", "[]", '{"a":1}', '"a"', "0"])
def test_an_answer_of_a_million_values_is_none(piece: str) -> None:
    many = ",".join([piece] * (MAX_ANSWER_BYTES // 2 // (len(piece) + 1)))
    body = f'{{"status": "completed", "output": [{many}]}}'.encode()
    outcome = []
    used = peak_mb(
        lambda: outcome.append(classify(Answer(status=200, headers={}, body=body), now=NOW))
    )
    assert isinstance(outcome[0], Unknown)
    assert used < 6 * len(body) / MB


def test_a_large_text_and_five_thousand_calls_are_an_answer() -> None:
    text = '{"a": [1, 2, 3]}, ' * 200_000
    call = {"type": "function_call", "call_id": "c", "name": "n", "arguments": "{}"}
    output = [{"type": "message", "content": text}, *[call] * 5000]
    body = json.dumps({"status": "completed", "output": output}).encode()
    outcome = classify(Answer(status=200, headers={}, body=body), now=NOW)
    assert isinstance(outcome, Done)
    assert (outcome.text, len(outcome.tool_calls)) == (text, 5000)


def test_a_stream_of_very_many_items_is_not_kept() -> None:
    def parts() -> Iterator[bytes]:
        for number in range(20_000):
            event = {"type": "response.output_text.delta", "output_index": number, "delta": "a"}
            yield f"data: {json.dumps(event)}\n\n".encode()

    shown: list[str | None] = []
    head = Answer(status=200, headers={"content-type": "text/event-stream"})

    def read() -> None:
        window = CallWindow(send_by=1e9, finish_by=1e9)
        read_streamed(head, parts(), window=window, idle_s=None, on_text=shown.append)

    assert peak_mb(read) < 2
    assert 1 <= len(shown) <= 64
