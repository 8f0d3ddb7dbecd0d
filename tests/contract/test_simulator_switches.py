"""The newer switches: each doubt of Telnyx's documentation in its other position as well."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from worker.sandbox.simulator import Simulator, SimulatorConfig, running_simulator

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
PATH = "/ai/conversations"


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with running_simulator(SimulatorConfig(list_visible_after_s=0)) as running:
        yield running


def created(api: httpx.Client, **metadata: object) -> httpx.Response:
    return api.post(PATH, json={"metadata": metadata})


def ask(api: httpx.Client, **body: object) -> httpx.Response:
    return api.post("/ai/openai/responses", json={"input": "Hello", **body})


def test_keys_of_metadata_are_words_or_anything(sim: Simulator, api: httpx.Client) -> None:
    assert created(api, a_1="x").status_code == 200
    assert created(api, **{"a-b": "x"}).status_code == 422
    assert created(api, **{"a" * 65: "x"}).status_code == 422
    sim.reconfigure(metadata_keys="any", metadata_max_key_length=65)
    assert created(api, **{"a-b": "x", "a" * 65: "x"}).status_code == 200


def test_values_of_metadata_are_strings_or_made_so(sim: Simulator, api: httpx.Client) -> None:
    assert created(api, ai_disabled=True).status_code == 422
    sim.reconfigure(metadata_values="coerced")
    made = created(api, ai_disabled=True, n=1.5).json()
    assert made["metadata"] == {"ai_disabled": "true", "n": "1.5"}
    assert ask(api, conversation=made["id"]).status_code == 400
    assert created(api, a=[]).status_code == 422
    assert created(api, a=None).status_code == 422


def test_a_creation_may_be_wrapped(sim: Simulator, api: httpx.Client) -> None:
    assert "id" in created(api).json()
    sim.reconfigure(created_wrapped=True)
    assert created(api).json().keys() == {"data"}


def test_quotes_may_keep_a_comma_together(sim: Simulator, api: httpx.Client) -> None:
    made = created(api, a="x,y").json()["id"]
    created(api, a="y")
    params = {"or": '(metadata->a.eq."x,y",metadata->a.eq.z)'}
    assert api.get(PATH, params=params).status_code == 422
    sim.reconfigure(postgrest_quotes=True, postgrest_operators=True)
    for query in (params, {"metadata->a": 'in.("x,y",z)'}):
        found = api.get(PATH, params=query).json()["data"]
        assert [each["id"] for each in found] == [made]
    plain = {"or": "(metadata->a.eq.y,metadata->a.eq.z)"}
    assert len(api.get(PATH, params=plain).json()["data"]) == 1


@pytest.mark.parametrize(("repeated", "times"), [(True, 2), (False, 1)])
def test_the_same_instructions_are_stored_again_or_not(
    sim: Simulator, api: httpx.Client, repeated: bool, times: int
) -> None:
    sim.reconfigure(instructions_repeated=repeated)
    thread = created(api).json()["id"]
    for _ in range(2):
        ask(api, conversation=thread, instructions="Be kind.")
    ask(api, conversation=thread, instructions="Be brief.")
    told = [each.text for each in sim.messages(thread) if each.origin == "instructions"]
    assert told == ["Be kind."] * times + ["Be brief."]


def test_fields_outside_of_the_schema_are_honoured_ignored_or_refused(
    sim: Simulator, api: httpx.Client
) -> None:
    def kinds() -> set[str]:
        answer = ask(api, input="tool:f {}", tools=[TOOL])
        return {each["type"] for each in answer.json()["output"]}

    assert "function_call" in kinds()
    sim.reconfigure(undocumented_fields="ignored")
    assert "function_call" not in kinds()
    sim.reconfigure(undocumented_fields="refused")
    refused = ask(api, tools=[TOOL])
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "tools"]
    assert ask(api, reasoning={"effort": "low"}, region="EU", mode="strict").status_code == 200


def test_a_mode_needs_a_region(api: httpx.Client) -> None:
    assert ask(api, mode="strict").status_code == 422
    assert ask(api, mode="strict", region="EU").status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_may_be_bare(sim: Simulator, api: httpx.Client, stream: bool) -> None:
    sim.reconfigure(answer_fields="bare")
    answer = ask(api, stream=stream)
    if stream:
        data = answer.text.strip().rpartition("data: ")[2]
        body: dict[str, Any] = json.loads(data)["response"]
    else:
        body = answer.json()
    assert not body.keys() & {"usage", "created_at", "tools", "tool_choice"}
    assert body["output"][-1]["content"][0]["text"]


def test_a_stream_may_fail_with_an_object_that_has_no_type(api: httpx.Client) -> None:
    headers = {"x-sim-fault": "stream_error_object"}
    body = {"input": "Hello", "stream": True}
    answer = api.post("/ai/openai/responses", json=body, headers=headers)
    last = answer.text.strip().rpartition("\n\n")[2]
    assert last.startswith('data: {"error":')
    assert "response.completed" not in answer.text


def test_an_insight_is_never_there(api: httpx.Client) -> None:
    thread = created(api).json()["id"]
    assert api.get(f"{PATH}/{thread}/conversations-insights").json()["data"] == []
    assert api.get(f"{PATH}/no-uuid/conversations-insights").status_code == 422
    assert api.get(f"{PATH}/insight-groups/x").status_code == 404
    assert api.post(f"{PATH}/insights", json={}).status_code == 404
