"""The unchanged `openai` SDK against the simulator, over HTTP, without its retries.

The SDK builds its objects without checking them, so answers are checked against its types as well.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from worker.sandbox.simulator import Simulator, SimulatorConfig, running_simulator

MODEL = SimulatorConfig().models[0]
PARAMETERS = {"type": "object", "properties": {"order_id": {"type": "integer"}}}
TOOL: Any = {"type": "function", "name": "get_order", "strict": False, "parameters": PARAMETERS}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with running_simulator(SimulatorConfig(messages_order="oldest_first")) as running:
        yield running


@pytest.fixture(scope="module")
def client(sim: Simulator) -> Iterator[OpenAI]:
    with sdk(sim, sim.api_key) as one:
        yield one


@pytest.fixture
def thread(sim: Simulator) -> str:
    """A conversation: at Telnyx they are not below the SDK's base URL."""
    headers = {"authorization": f"Bearer {sim.api_key}"}
    return str(httpx.post(f"{sim.base_url}/ai/conversations", headers=headers).json()["id"])


def sdk(sim: Simulator, api_key: str) -> OpenAI:
    url = f"{sim.base_url}/ai/openai"
    return OpenAI(api_key=api_key, base_url=url, max_retries=0, timeout=10)


def fault(name: str) -> dict[str, str]:
    return {"x-sim-fault": name} if name else {}


def test_a_plain_response_has_its_text_and_its_usage(client: OpenAI) -> None:
    answer = client.responses.create(model=MODEL, input="Hello", instructions="Be kind.")
    assert answer.output_text.startswith('Thanks for writing! You said "Hello"')
    assert (answer.status, answer.model, answer.error) == ("completed", MODEL, None)
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


@pytest.mark.parametrize("name", ["", "no_message", "incomplete", "failed", "refusal"])
@pytest.mark.parametrize("text", ["Hello", "tool:get_order {}"])
def test_every_kind_of_answer_is_what_the_sdks_types_want(
    client: OpenAI, name: str, text: str
) -> None:
    raw = client.responses.with_raw_response.create(
        model=MODEL, input=text, tools=[TOOL], extra_headers=fault(name)
    )
    Response.model_validate_json(raw.text)


def test_without_a_conversation_nothing_is_stored(client: OpenAI, sim: Simulator) -> None:
    before = {each.id: sim.messages(each.id) for each in sim.conversations()}
    client.responses.create(model=MODEL, input="Hello")
    assert {each.id: sim.messages(each.id) for each in sim.conversations()} == before


def test_a_conversation_given_as_a_string_is_continued(
    client: OpenAI, sim: Simulator, thread: str
) -> None:
    for text in ("One", "Two"):
        answer = client.responses.create(model=MODEL, input=text, conversation=thread)
    assert '"Two", that is message 2' in answer.output_text
    said = [each.text for each in sim.messages(thread) if each.role == "user"]
    assert said == ["One", "Two"]


def test_a_conversation_given_as_an_object_is_refused(client: OpenAI, thread: str) -> None:
    with pytest.raises(openai.UnprocessableEntityError):
        client.responses.create(model=MODEL, input="One", conversation={"id": thread})


def test_a_streamed_response_adds_up_to_its_text(
    client: OpenAI, sim: Simulator, thread: str
) -> None:
    with client.responses.create(
        model=MODEL, input="Hello", conversation=thread, stream=True
    ) as stream:
        events = list(stream)
    deltas = [each.delta for each in events if each.type == "response.output_text.delta"]
    assert events[-1].type == "response.completed"
    assert "".join(deltas) == events[-1].response.output_text
    assert sim.messages(thread)[-1].text == "".join(deltas)


def test_the_sdks_gathered_stream_is_the_whole_response(client: OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="Hello") as stream:
        for _ in stream:
            pass
        answer = stream.get_final_response()
    assert "Hello" in answer.output_text
    assert answer.status == "completed"


@pytest.mark.parametrize("name", ["", "refusal", "incomplete", "stream_failed", "stream_error"])
@pytest.mark.parametrize("text", ["Hello", "tool:get_order {}"])
def test_every_event_is_what_the_sdks_types_want(client: OpenAI, name: str, text: str) -> None:
    with client.responses.with_streaming_response.create(
        model=MODEL, input=text, tools=[TOOL], stream=True, extra_headers=fault(name)
    ) as raw:
        lines = [line for line in raw.iter_lines() if line.startswith("data: ")]
    assert len(lines) > 3
    for line in lines:
        EVENT.validate_python(json.loads(line.removeprefix("data: ")))


@pytest.mark.parametrize("name", ["stream_cut", "stream_no_terminal", "stream_failed"])
def test_a_stream_that_fails_never_gives_a_whole_response(client: OpenAI, name: str) -> None:
    with (
        pytest.raises((RuntimeError, openai.APIConnectionError)),
        client.responses.stream(model=MODEL, input="Hello", extra_headers=fault(name)) as stream,
    ):
        stream.get_final_response()


def test_an_error_within_a_stream_is_raised(client: OpenAI) -> None:
    headers = fault("stream_error_object")
    with (
        pytest.raises(openai.APIError, match="It broke"),
        client.responses.create(
            model=MODEL, input="Hello", stream=True, extra_headers=headers
        ) as stream,
    ):
        list(stream)


def test_a_tool_is_called_and_its_output_answered(
    client: OpenAI, sim: Simulator, thread: str
) -> None:
    first = client.responses.create(
        model=MODEL, conversation=thread, tools=[TOOL], input='tool:get_order {"order_id":42}'
    )
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("get_order", {"order_id": 42})
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "shipped"}
    second = client.responses.create(model=MODEL, conversation=thread, tools=[TOOL], input=[output])
    assert second.output_text.startswith("I looked it up for you: shipped")
    told = [each.role for each in sim.messages(thread) if each.origin != "reasoning"]
    assert told == ["user", "assistant", "tool", "assistant"]


def test_a_call_left_open_is_the_next_requests_error(client: OpenAI, thread: str) -> None:
    client.responses.create(
        model=MODEL, conversation=thread, tools=[TOOL], input="tool:get_order {}"
    )
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model=MODEL, conversation=thread, input="And now?")


def test_the_models_are_listed(client: OpenAI, sim: Simulator) -> None:
    assert [model.id for model in client.models.list()] == list(sim.config.models)


ERRORS = [
    ("400", openai.BadRequestError),
    ("401", openai.AuthenticationError),
    ("403", openai.PermissionDeniedError),
    ("404", openai.NotFoundError),
    ("409", openai.ConflictError),
    ("422", openai.UnprocessableEntityError),
    ("429", openai.RateLimitError),
    ("500", openai.InternalServerError),
    ("502_html", openai.InternalServerError),
    ("503_empty", openai.InternalServerError),
    ("dropped", openai.APIConnectionError),
]


@pytest.mark.parametrize(("name", "error"), ERRORS, ids=[name for name, _ in ERRORS])
def test_each_fault_is_the_sdks_own_error(
    client: OpenAI, name: str, error: type[openai.APIError]
) -> None:
    with pytest.raises(error) as caught:
        client.responses.create(model=MODEL, input="Hello", extra_headers=fault(name))
    assert type(caught.value) is error


def test_a_wrong_key_an_unknown_thread_and_nonsense_are_errors_without_a_fault(
    client: OpenAI, sim: Simulator
) -> None:
    with sdk(sim, "KEY-other") as stranger, pytest.raises(openai.AuthenticationError) as caught:
        stranger.models.list()
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["errors"][0]["code"] == "10009"
    nowhere = "6a09cdc3-8948-47f0-aa62-74ac943d6c58"
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model=MODEL, input="Hello", conversation=nowhere)
    with pytest.raises(openai.UnprocessableEntityError):
        client.responses.create(model=MODEL, input="Hello", conversation="no-uuid")
    with pytest.raises(openai.NotFoundError):
        client.conversations.create()


def test_a_lost_answer_is_asked_for_once(client: OpenAI, sim: Simulator, thread: str) -> None:
    with pytest.raises(openai.APIConnectionError):
        client.responses.create(
            model=MODEL, input="a", conversation=thread, extra_headers=fault("stored_then_dropped")
        )
    assert sum(each.role == "user" for each in sim.messages(thread)) == 1
