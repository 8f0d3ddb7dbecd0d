"""Streamed answers of the simulator."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from worker.sandbox.simulator import Simulator, SimulatorConfig, running_simulator

TOOLS = [{"type": "function", "name": "get_order", "parameters": {"type": "object"}}]


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with running_simulator(SimulatorConfig(reasoning=False)) as running:
        yield running


def stream(
    api: httpx.Client, fault: str = "", text: str = "hello", **more: object
) -> httpx.Response:
    headers = {"x-sim-fault": fault} if fault else {}
    body = {"input": text, "stream": True, **more}
    return api.post("/ai/openai/responses", json=body, headers=headers)


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    blocks = [block for block in answer.text.split("\n\n") if block.startswith("event: ")]
    found = []
    for block in blocks:
        name, data = block.split("\n", 1)
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_a_stream_tells_a_text_in_the_documented_order(api: httpx.Client) -> None:
    answer = stream(api)
    assert answer.headers["content-type"] == "text/event-stream"
    told = events(answer)
    kinds = [each["type"].removeprefix("response.") for each in told]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert set(kinds[4:-4]) == {"output_text.delta"}
    assert kinds[-4:] == [
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [each["sequence_number"] for each in told] == list(range(len(told)))
    deltas = "".join(each["delta"] for each in told if each["type"].endswith("text.delta"))
    final = told[-1]["response"]["output"][0]["content"][0]["text"]
    assert deltas == final == told[-4]["text"]


def test_a_streamed_turn_is_stored_like_any_other(api: httpx.Client, sim: Simulator) -> None:
    thread = api.post("/ai/conversations").json()["id"]
    final = events(stream(api, conversation=thread))[-1]["response"]
    stored = [each.text for each in sim.messages(thread)]
    assert stored == ["hello", final["output"][0]["content"][0]["text"]]


def test_a_call_of_a_tool_is_streamed_with_its_arguments(api: httpx.Client) -> None:
    told = events(stream(api, text='tool:get_order {"id":1}', tools=TOOLS))
    kinds = [each["type"] for each in told]
    assert "response.function_call_arguments.delta" in kinds
    done = told[kinds.index("response.function_call_arguments.done")]
    assert done["arguments"] == '{"id":1}'


def test_reasoning_and_a_refusal_are_streamed(api: httpx.Client, sim: Simulator) -> None:
    sim.reconfigure(reasoning=True)
    kinds = {each["type"] for each in events(stream(api, "refusal"))}
    assert {"response.reasoning_text.done", "response.refusal.done"} <= kinds


def test_a_stream_ends_with_done_by_switch(api: httpx.Client, sim: Simulator) -> None:
    assert "[DONE]" not in stream(api).text
    sim.reconfigure(stream_done_marker=True)
    assert stream(api).text.endswith("data: [DONE]\n\n")


def test_a_stream_can_be_cut(api: httpx.Client) -> None:
    for fault in ("stream_cut", "cut"):
        with pytest.raises(httpx.RemoteProtocolError):
            stream(api, fault)


def test_a_stream_can_end_without_a_terminal_event(api: httpx.Client) -> None:
    told = events(stream(api, "stream_no_terminal"))
    assert told[-1]["type"] == "response.output_item.done"


@pytest.mark.parametrize(
    ("fault", "last"),
    [
        ("stream_error", "error"),
        ("stream_failed", "response.failed"),
        ("stream_incomplete", "response.incomplete"),
        ("failed", "response.failed"),
        ("incomplete", "response.incomplete"),
    ],
)
def test_a_stream_can_end_unhappily(api: httpx.Client, fault: str, last: str) -> None:
    told = events(stream(api, fault))
    assert told[-1]["type"] == last
    if last == "response.failed":
        assert told[-1]["response"]["error"]["code"] == "server_error"
    if last == "response.incomplete":
        assert told[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    if last == "error":
        assert {"message", "code", "param"} <= told[-1].keys()


def test_json_can_come_where_a_stream_was_asked_for(api: httpx.Client) -> None:
    answer = stream(api, "stream_json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["object"] == "response"


def test_a_stream_can_trickle_event_by_event(api: httpx.Client) -> None:
    answer = stream(api, "trickle; interval_s=0.0001")
    assert events(answer)[-1]["type"] == "response.completed"
