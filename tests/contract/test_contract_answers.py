"""What the simulator answers fits the contract: successes, each shape of a no, each event."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.contracts import check
from tests.support.receiver import receiver
from worker.sandbox.simulator import (
    FAULTS,
    Endpoint,
    InboundSms,
    Simulator,
    SimulatorConfig,
    running_simulator,
)
from worker.sandbox.simulator.behaviour.plans import Body, Plan, Wire

TOOL = {"type": "function", "name": "get_order", "parameters": {"type": "object"}}
CALLING = 'tool:get_order {"a":1}'
ASK = {"input": "Hello", "instructions": "Be kind.", "tools": [TOOL]}
SMS = {"from": "+13125550100", "to": "+13125550001", "text": "Hello"}
OTHER = "6a09cdc3-8948-47f0-aa62-74ac943d6c58"


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with running_simulator(SimulatorConfig(list_visible_after_s=0)) as running:
        yield running


@pytest.fixture(scope="module")
def api(sim: Simulator) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {sim.api_key}"}
    with httpx.Client(base_url=sim.base_url, headers=headers, timeout=5) as client:
        yield client


@pytest.fixture
def thread(api: httpx.Client) -> str:
    body = {"name": "n", "metadata": {"mark": str(uuid4())}}
    return str(checked(api, "conversation", "POST", "/ai/conversations", json=body)["id"])


def checked(
    api: httpx.Client,
    schema: str | None,
    method: str,
    path: str,
    status: int = 200,
    **more: Any,  # noqa: ANN401 - as httpx takes it
) -> Any:  # noqa: ANN401 - JSON
    """Ask, check status and body; a schema of None is an empty body."""
    answer = api.request(method, path, **more)
    assert answer.status_code == status
    if schema is None:
        assert answer.content == b""
        return None
    assert answer.headers["content-type"].startswith("application/json")
    check(schema, answer.json())
    return answer.json()


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """Check a stream event by event; its lines are as the specification of SSE wants them."""
    assert answer.headers["content-type"] == "text/event-stream"
    *blocks, rest = answer.text.split("\n\n")
    assert rest == ""
    events = []
    for number, block in enumerate(blocks):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == number
        check("stream_event", event)
        events.append(event)
    return events


def test_conversations_and_their_messages(api: httpx.Client, thread: str) -> None:
    path = f"/ai/conversations/{thread}"
    checked(api, "conversation_wrapped", "GET", path)
    checked(api, "conversation_wrapped", "PUT", path, json={"metadata": {"a": "b"}})
    checked(api, "conversation_list", "GET", "/ai/conversations?metadata-%3Ea=eq.b")
    added = {"role": "user", "content": "Hi", "metadata": {"n": 1, "l": ["a", True]}}
    checked(api, None, "POST", path + "/message", json=added)
    checked(api, "response", "POST", "/ai/openai/responses", json={**ASK, "conversation": thread})
    asked = {**ASK, "conversation": thread, "input": CALLING}
    checked(api, "response", "POST", "/ai/openai/responses", json=asked)
    listed = checked(api, "message_list", "GET", path + "/messages")
    assert {each["role"] for each in listed["data"]} == {"user", "assistant", "system"}
    assert sum("tool_calls" in each for each in listed["data"]) == 1
    checked(api, "message_list", "GET", path + "/messages?page%5Bsize%5D=1&page%5Bnumber%5D=99")
    checked(api, None, "DELETE", path)
    checked(api, "error_detail", "GET", path, status=404)


def test_models_insights_and_the_public_key(api: httpx.Client, thread: str) -> None:
    checked(api, "model_list", "GET", "/ai/openai/models")
    conversations = "/ai/conversations"
    for path in (f"/{thread}/conversations-insights", "/insights", "/insight-groups"):
        checked(api, "insight_list", "GET", conversations + path)
    counts = "/conversation-insights/aggregates"
    checked(api, "insight_aggregates", "GET", conversations + counts)
    checked(api, "error_detail", "GET", f"{conversations}/insights/{OTHER}", status=404)
    checked(api, "public_key", "GET", "/public_key")


def test_text_messages_and_their_events() -> None:
    with receiver() as hooks:
        config = SimulatorConfig(webhook_url=hooks.url, webhook_copies=1)
        with running_simulator(config) as sim:
            headers = {"authorization": f"Bearer {sim.api_key}"}
            with httpx.Client(base_url=sim.base_url, headers=headers) as api:
                sent = checked(api, "text_message_wrapped", "POST", "/messages", json=SMS)
                hooks.wait_for(2)
                path = f"/messages/{sent['data']['id']}"
                checked(api, "text_message_wrapped", "GET", path)
                media = ("https://example.com/a.png",)
                for text in ("Hi", "STOP"):
                    sim.receive_sms(
                        InboundSms(sender=SMS["to"], recipient="12345", text=text, media=media)
                    )
                for posted in hooks.wait_for(4):
                    check("webhook", posted.body)
                checked(api, "error_classic", "POST", "/messages", status=403, json=SMS)


@pytest.mark.parametrize("output", ["", "no_message", "incomplete", "failed", "refusal"])
@pytest.mark.parametrize("text", ["Hello", CALLING])
def test_a_response_plain_and_streamed(api: httpx.Client, output: str, text: str) -> None:
    headers = {"x-sim-fault": output} if output else {}
    body = {**ASK, "input": text}
    path = "/ai/openai/responses"
    checked(api, "response", "POST", path, json=body, headers=headers)
    answer = api.post(path, json={**body, "stream": True}, headers=headers)
    events = events_of(answer)
    ended = {"incomplete": "incomplete", "failed": "failed"}.get(output, "completed")
    assert events[-1]["type"] == f"response.{ended}"


@pytest.mark.parametrize("fault", ["stream_error", "stream_failed", "stream_incomplete"])
def test_a_stream_that_goes_wrong_does_so_within_the_contract(
    api: httpx.Client, fault: str
) -> None:
    body, headers = {**ASK, "stream": True}, {"x-sim-fault": fault}
    assert events_of(api.post("/ai/openai/responses", json=body, headers=headers))


SPOKEN = [
    name for name, plan in FAULTS.items() if plan.wire is Wire.REFUSAL and plan.body is Body.JSON
]


@pytest.mark.parametrize("shape", ["classic", "detail", "gateway"])
def test_every_fault_that_speaks_json_has_the_shape_of_the_switch(
    sim: Simulator, api: httpx.Client, shape: str
) -> None:
    sim.reconfigure(fault_error_shape=shape)
    for name in SPOKEN:
        plan: Plan = FAULTS[name]
        sending = plan.endpoint is Endpoint.SEND
        path = "/messages" if sending else "/ai/openai/responses"
        checked(
            api,
            "error_classic" if sending else f"error_{shape}",
            "POST",
            path,
            status=plan.status,
            json=SMS if sending else ASK,
            headers={"x-sim-fault": name},
        )


REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/ai/conversations", {"json": {"metadata": {"a": 1}}}),
    ("POST", "/ai/conversations", {"content": b"{"}),
    ("POST", "/ai/conversations", {"headers": {"idempotency-key": "a b"}}),
    ("GET", "/ai/conversations?metadata-%3E%3Ea=eq.b", {}),
    ("GET", "/ai/conversations?limit=0", {}),
    ("GET", "/ai/conversations/no-uuid", {}),
    ("GET", f"/ai/conversations/{OTHER}/messages?page%5Bsize%5D=101", {}),
    ("POST", "/ai/openai/responses", {"json": {"input": 7}}),
    ("POST", "/ai/openai/responses", {"json": {"conversation": "x"}}),
    ("POST", "/ai/openai/responses", {"headers": {"x-sim-fault": "nonsense"}}),
]


@pytest.mark.parametrize(
    ("method", "path", "more"), REFUSED, ids=[f"{m} {p} {k}" for m, p, k in REFUSED]
)
def test_a_field_that_is_wrong_is_named(
    api: httpx.Client, thread: str, method: str, path: str, more: dict[str, Any]
) -> None:
    path = path.replace(OTHER, thread)
    checked(api, "error_validation", method, path, status=422, **more)


def test_what_is_said_before_anything_is_done(sim: Simulator, api: httpx.Client) -> None:
    checked(api, "error_classic", "GET", "/ai/nowhere", status=404)
    wrong = {"authorization": "Bearer KEY-other"}
    checked(api, "error_classic", "GET", "/ai/openai/models", status=401, headers=wrong)
    for shape in ("detail", "classic", "gateway"):
        sim.reconfigure(ai_error_shape=shape)
        body = {**ASK, "conversation": OTHER}
        checked(api, f"error_{shape}", "POST", "/ai/openai/responses", status=404, json=body)
        too_large = b" " * (sim.config.max_body_bytes + 1)
        checked(
            api, f"error_{shape}", "POST", "/ai/openai/responses", status=413, content=too_large
        )
    sim.reconfigure(ai_error_shape="detail")
