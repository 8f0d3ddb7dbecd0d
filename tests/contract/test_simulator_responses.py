"""The simulator's Responses endpoint, not streamed."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.processes import eventually
from tests.support.requests_heard import requests_in
from worker.sandbox.simulator import (
    Draft,
    Script,
    Simulator,
    SimulatorConfig,
    prefix_hash,
    running_simulator,
)

TOOLS = [{"type": "function", "name": "get_order", "parameters": {"type": "object"}}]


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with running_simulator() as running:
        yield running


def post(api: httpx.Client, **body: object) -> httpx.Response:
    return api.post("/ai/openai/responses", json=body)


def said(answer: httpx.Response) -> str:
    items = answer.raise_for_status().json()["output"]
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts)


def hashed(text: str) -> str:
    found = re.search(r"\[prefix:([0-9a-f]{12})\]", text)
    assert found is not None
    return found[1]


def told(sim: Simulator, thread: str) -> list[tuple[str, str | None]]:
    messages = sim.messages(thread)
    return [(each.role, each.text) for each in messages if each.origin != "reasoning"]


def test_input_and_output_are_in_the_thread_when_the_answer_comes(
    api: httpx.Client, sim: Simulator, thread: str
) -> None:
    text = said(post(api, conversation=thread, input="hello"))
    assert '"hello"' in text
    assert told(sim, thread) == [("user", "hello"), ("assistant", text)]


def test_an_answer_is_an_openai_response_object(api: httpx.Client, thread: str) -> None:
    body = post(api, conversation=thread, input="hello", model="zai-org/GLM-5.3").json()
    assert body["object"] == "response"
    assert body["status"] == "completed"
    assert body["model"] == "zai-org/GLM-5.3"
    assert {"id", "created_at", "parallel_tool_calls", "tool_choice", "tools"} <= body.keys()
    assert [item["type"] for item in body["output"]] == ["reasoning", "message"]
    usage = body["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
    assert "conversation" not in body


def test_a_reply_carries_the_hash_of_everything_before_it(
    api: httpx.Client, sim: Simulator, thread: str
) -> None:
    hashes = [hashed(said(post(api, conversation=thread, input=text))) for text in ("a", "b", "a")]
    messages = sim.messages(thread)
    outputs = [n for n, each in enumerate(messages) if each.origin == "output"]
    assert hashes == [prefix_hash(messages[:n]) for n in outputs]
    assert len(set(hashes)) == 3


def test_equal_histories_give_equal_replies(api: httpx.Client) -> None:
    replies = set()
    for _ in "ab":
        thread = api.post("/ai/conversations").json()["id"]
        post(api, conversation=thread, input="one")
        replies.add(said(post(api, conversation=thread, input="two")))
    assert len(replies) == 1


def test_without_a_conversation_nothing_is_stored(api: httpx.Client, sim: Simulator) -> None:
    items = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "two"}]},
        {"type": "message", "role": "user", "content": "three"},
    ]
    text = said(post(api, input=items))
    roles = (("user", "one"), ("assistant", "two"), ("user", "three"))
    assert hashed(text) == prefix_hash(Draft(role=role, text=said) for role, said in roles)
    assert sim.conversations() == ()


def test_the_old_path_works_as_well(api: httpx.Client) -> None:
    assert api.post("/ai/responses", json={"input": "hello"}).status_code == 200


def test_the_texts_of_an_items_parts_become_one_message(
    api: httpx.Client, sim: Simulator, thread: str
) -> None:
    parts = [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": "data:image/png;base64,"},
        {"type": "input_text", "text": "here"},
    ]
    post(api, conversation=thread, input=[{"role": "user", "content": parts}])
    assert told(sim, thread)[0] == ("user", "look here")


@pytest.mark.parametrize(
    "body",
    [
        {"conversation": "not-a-uuid", "input": "a"},
        {"conversation": {"id": "00000000-0000-0000-0000-000000000000"}, "input": "a"},
        {"input": 7},
        {"input": ["a"]},
        {"input": [{"role": "robot", "content": "a"}]},
        {"input": [{"role": "user"}]},
        {"input": [{"role": "user", "content": [{"type": "smell"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
        {"input": [{"type": "dream"}]},
        {"input": [{"type": "function_call_output", "output": "x"}]},
        {"input": [{"type": "function_call", "call_id": "c"}]},
        {"input": "a", "instructions": 5},
    ],
)
def test_a_request_outside_of_the_schema_is_a_422_with_its_place(
    api: httpx.Client, body: dict[str, Any]
) -> None:
    answer = api.post("/ai/openai/responses", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "body"


def test_an_unknown_conversation_has_a_status_by_switch(api: httpx.Client, sim: Simulator) -> None:
    unknown = "00000000-0000-0000-0000-000000000000"
    for status in (404, 422, 400):
        sim.reconfigure(unknown_conversation_status=status)
        assert post(api, conversation=unknown, input="a").status_code == status


def test_a_withdrawn_model_is_refused_until_it_is_back(
    api: httpx.Client, sim: Simulator, thread: str
) -> None:
    model = "zai-org/GLM-5.3"
    sim.set_model_available(model, available=False)
    assert post(api, conversation=thread, input="a", model=model).status_code == 400
    assert told(sim, thread) == []
    ids = [each["id"] for each in api.get("/ai/openai/models").json()["data"]]
    assert model not in ids
    sim.set_model_available(model, available=True)
    assert post(api, conversation=thread, input="a", model=model).status_code == 200


def test_models_are_listed_with_a_date_in_iso_format(api: httpx.Client, sim: Simulator) -> None:
    body = api.get("/ai/openai/models").json()
    assert body["object"] == "list"
    assert [each["id"] for each in body["data"]] == list(sim.config.models)
    assert body["data"][0]["created"] == "2026-08-01T00:00:00Z"


def test_another_key_can_be_accepted_from_now_on(api: httpx.Client, sim: Simulator) -> None:
    old = sim.api_key
    sim.set_api_key("KEY-new")
    assert post(api, input="a").status_code == 401
    sim.set_api_key(old)
    assert post(api, input="a").status_code == 200


def test_a_previous_response_id_is_not_supported(api: httpx.Client) -> None:
    assert post(api, input="a", previous_response_id="resp_1").status_code == 400


def test_ai_disabled_blocks_responses_by_switch(api: httpx.Client, sim: Simulator) -> None:
    body = {"metadata": {"ai_disabled": "true"}}
    thread = api.post("/ai/conversations", json=body).json()["id"]
    assert post(api, conversation=thread, input="a").status_code == 400
    sim.reconfigure(ai_disabled_blocks_responses=False)
    assert post(api, conversation=thread, input="a").status_code == 200


def test_a_full_context_and_a_large_body_are_refused(
    api: httpx.Client, sim: Simulator, thread: str
) -> None:
    sim.reconfigure(context_tokens=10)
    assert post(api, conversation=thread, input="x" * 100).status_code == 400
    sim.reconfigure(max_body_bytes=50)
    assert post(api, conversation=thread, input="x" * 100).status_code == 413
    assert told(sim, thread) == []


def test_instructions_appear_in_the_thread_by_switch_and_do_not_count_in_the_hash(
    api: httpx.Client, sim: Simulator
) -> None:
    hashes = set()
    for role, count in (("hidden", 0), ("system", 1), ("user", 1)):
        sim.reconfigure(instructions_listed=role)
        thread = api.post("/ai/conversations").json()["id"]
        answer = post(api, conversation=thread, input="a", instructions="be kind")
        hashes.add(hashed(said(answer)))
        assert told(sim, thread).count((role, "be kind")) == count
    assert len(hashes) == 1


def test_reasoning_appears_in_the_thread_by_switch(api: httpx.Client, sim: Simulator) -> None:
    shapes = {}
    for listed in ("hidden", "empty", "text"):
        sim.reconfigure(reasoning_listed=listed)
        thread = api.post("/ai/conversations").json()["id"]
        post(api, conversation=thread, input="a")
        shapes[listed] = [each.text is None for each in sim.messages(thread)]
    assert shapes == {
        "hidden": [False, False],
        "empty": [False, True, False],
        "text": [False, False, False],
    }


def test_white_space_is_kept_by_switch(api: httpx.Client, sim: Simulator, thread: str) -> None:
    post(api, conversation=thread, input=" a  b\n")
    sim.reconfigure(text_kept=False)
    post(api, conversation=thread, input=" a  b\n")
    assert [text for role, text in told(sim, thread) if role == "user"] == [" a  b\n", "a b"]


def test_the_conversation_is_echoed_by_switch(
    api: httpx.Client, sim: Simulator, thread: str
) -> None:
    sim.reconfigure(echo_conversation=True)
    body = post(api, conversation=thread, input="a").json()
    assert body["conversation"] == {"id": thread}


def test_a_tool_is_called_on_demand_and_its_output_gets_a_text(
    api: httpx.Client, sim: Simulator, thread: str
) -> None:
    text = 'tool:get_order {"order_id": 42}'
    first = post(api, conversation=thread, input=text, tools=TOOLS).json()
    (call,) = [item for item in first["output"] if item["type"] == "function_call"]
    assert (call["name"], call["arguments"]) == ("get_order", '{"order_id": 42}')
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "shipped"}
    second = post(api, conversation=thread, input=[output], tools=TOOLS)
    assert "shipped" in said(second)
    assert [role for role, _ in told(sim, thread)] == ["user", "assistant", "tool", "assistant"]
    listed = api.get(f"/ai/conversations/{thread}/messages").json()["data"]
    (calling,) = [each for each in listed if each.get("tool_calls")]
    assert calling["text"] is None
    assert calling["tool_calls"][0]["id"] == call["call_id"]


def test_several_tools_are_called_at_once_and_unknown_ones_are_not(api: httpx.Client) -> None:
    text = "tool:get_order {}\ntool:get_order\ntool:other {}"
    items = post(api, input=text, tools=TOOLS).json()["output"]
    assert [item["type"] for item in items] == ["reasoning", "function_call", "function_call"]
    assert "tool:get_order" in said(post(api, input=text))
    assert "tool:get_order" in said(post(api, input=text, tools=TOOLS, tool_choice="none"))


def test_an_open_tool_call_must_be_answered_first(
    api: httpx.Client, sim: Simulator, thread: str
) -> None:
    post(api, conversation=thread, input="tool:get_order", tools=TOOLS)
    assert post(api, conversation=thread, input="and now?").status_code == 400
    sim.reconfigure(strict_tool_calls=False)
    assert post(api, conversation=thread, input="and now?").status_code == 200


def test_an_output_of_a_call_that_nobody_made_is_a_400(api: httpx.Client, thread: str) -> None:
    output = {"type": "function_call_output", "call_id": "call_0", "output": "{}"}
    assert post(api, conversation=thread, input=[output]).status_code == 400


def test_a_script_decides_what_is_said(api: httpx.Client, sim: Simulator) -> None:
    sim.script(Script(text="order", calls=(("get_order", "not json"),)))
    sim.script(Script(text="order", reply="It shipped.", count=2))
    first = post(api, input="my order?").json()["output"][1]
    assert (first["type"], first["arguments"]) == ("function_call", "not json")
    for _ in "ab":
        assert said(post(api, input="my order?")).startswith("It shipped.")
    assert said(post(api, input="my order?")).startswith("Thanks")


def test_latency_is_fixed_or_drawn_with_a_seed() -> None:
    def times(config: SimulatorConfig) -> list[float]:
        with running_simulator(config) as sim:
            state = sim._state
            return [state.latency_s() for _ in range(50)]

    assert set(times(SimulatorConfig(latency_s=2))) == {2}
    spread = SimulatorConfig(latency_s=2, latency_sigma=0.5, latency_max_s=4, seed=7)
    assert times(spread) == times(spread)
    assert 0 < min(times(spread)) < 2 < max(times(spread)) <= 4


def test_latency_is_really_waited(api: httpx.Client, sim: Simulator) -> None:
    sim.reconfigure(latency_s=0.3)
    started = time.monotonic()
    post(api, input="a")
    assert time.monotonic() - started >= 0.3


def test_a_run_longer_than_the_edge_allows_is_a_504_and_still_runs_to_its_end(
    api: httpx.Client, sim: Simulator, thread: str
) -> None:
    sim.reconfigure(latency_s=0.3, edge_timeout_s=0.1)
    answer = post(api, conversation=thread, input="a")
    assert (answer.status_code, answer.headers["content-type"]) == (504, "text/html")
    assert eventually(lambda: len(told(sim, thread)) == 2)
    kinds = [entry.event.kind for entry in sim.log()][::-1]
    assert "message_stored" in kinds[: kinds.index("answer_sent")], "after the 504"


def test_input_is_stored_on_arrival_or_with_the_output(
    api: httpx.Client, sim: Simulator, thread: str
) -> None:
    sim.reconfigure(latency_s=0.2)
    for stored in ("on_arrival", "with_output"):
        sim.reconfigure(input_stored=stored)
        post(api, conversation=thread, input="a")
        asked, *written = (
            entry.at
            for entry in sim.log()[-7:]
            if entry.event.kind in {"request_received", "message_stored"}
        )
        assert (written[0] - asked < written[-1] - written[0]) == (stored == "on_arrival")


@pytest.mark.parametrize(
    ("mode", "statuses", "roles"),
    [
        ("interleave", [200, 200], ["user", "user", "assistant", "assistant"]),
        ("serialize", [200, 200], ["user", "assistant", "user", "assistant"]),
        ("conflict", [200, 409], ["user", "assistant"]),
    ],
)
def test_two_requests_at_once_on_a_conversation_behave_by_switch_and_are_noticed(
    api: httpx.Client, sim: Simulator, thread: str, mode: str, statuses: list[int], roles: list[str]
) -> None:
    sim.reconfigure(latency_s=0.8, concurrent_requests=mode)
    asked = len(requests_in(sim.log()))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(post, api, conversation=thread, input="a")
        assert eventually(lambda: len(requests_in(sim.log())) > asked)
        second = pool.submit(post, api, conversation=thread, input="b")
    assert [first.result().status_code, second.result().status_code] == statuses
    assert [role for role, _ in told(sim, thread)] == roles
    (overlap,) = sim.overlaps()
    assert overlap.conversation_id == thread


def test_a_request_whose_client_leaves_is_executed_all_the_same(
    api: httpx.Client, sim: Simulator, thread: str
) -> None:
    sim.reconfigure(latency_s=1.0)
    body = {"conversation": thread, "input": "a"}
    with pytest.raises(httpx.ReadTimeout):
        api.post("/ai/openai/responses", json=body, timeout=0.1)
    assert eventually(lambda: [role for role, _ in told(sim, thread)] == ["user", "assistant"])
