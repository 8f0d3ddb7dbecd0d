"""Streamed answers of the simulator: each way of ending."""

import time
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest
from pydantic import SecretStr

from tests.support.streams import REQUEST, SLACK_S, call
from worker.domain.ids import TelnyxConversationId
from worker.domain.turns.calls import Done, NotSent, Refused, Unknown
from worker.sandbox.simulator import Simulator, SimulatorConfig, running_simulator
from worker.telnyx.client import TelnyxClient


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator(SimulatorConfig(list_visible_after_s=0.0)) as running:
        yield running


@pytest.fixture
def client(simulator: Simulator) -> Iterator[TelnyxClient]:
    with TelnyxClient(SecretStr(simulator.api_key), base_url=simulator.base_url) as one:
        yield one
    simulator.clear_faults()


def conversation(client: TelnyxClient) -> TelnyxConversationId:
    return client.conversations.create(uuid4(), "n", {"worker_user": "u"}).id


@pytest.mark.parametrize("marker", [False, True])
def test_a_simulated_stream_is_told_and_stored(
    client: TelnyxClient, simulator: Simulator, marker: bool
) -> None:
    simulator.reconfigure(stream_done_marker=marker)
    thread = conversation(client)
    outcome, told = call(client, replace(REQUEST, conversation=thread))
    assert isinstance(outcome, Done)
    assert outcome.text
    assert "".join(told) == outcome.text
    assert client.conversations.messages(thread)[-1].text == outcome.text


def test_a_simulated_tool_call_comes_out_of_a_stream(client: TelnyxClient) -> None:
    tools = ({"type": "function", "name": "get_order", "parameters": {"type": "object"}},)
    item = {"role": "user", "content": 'tool:get_order {"id":1}'}
    outcome, told = call(client, replace(REQUEST, input=(item,), tools=tools))
    assert isinstance(outcome, Done)
    assert [(one.name, one.arguments) for one in outcome.tool_calls] == [("get_order", '{"id":1}')]
    assert told == []


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("stream_cut", "stream cut within an event"),
        ("cut", "ended early"),
        ("stream_no_terminal", "stream ended without a verdict"),
        ("stream_error", "stream error server_error"),
        ("stream_failed", "failed"),
        ("stream_incomplete", "incomplete"),
        ("stream_json", "completed"),
        ("failed", "failed"),
        ("incomplete", "incomplete"),
        ("refusal", "completed"),
        ("no_message", "completed"),
        ("empty", "stream ended without a verdict"),
        ("trickle", "stream silent"),
        ("stream_keepalive", "deadline passed"),
        ("stored_then_hang", "deadline passed"),
        ("stored_then_dropped", "ended early"),
        ("stored_then_reset", "read: ConnectionResetError"),
        ("429", "429"),
        ("stored_then_503", "503"),
    ],
)
def test_each_fault_of_a_simulated_stream_is_told_apart(
    client: TelnyxClient, simulator: Simulator, fault: str, expected: str
) -> None:
    simulator.inject(fault)
    idle_s = 0.4 if expected == "stream silent" else 1.0
    request = replace(REQUEST, conversation=conversation(client), stream_idle_s=idle_s)
    started = time.monotonic()
    outcome, _ = call(client, request, timeout_s=1.5)
    assert time.monotonic() - started < 1.5 + SLACK_S
    match outcome:
        case Done():
            assert outcome.status == expected
        case Unknown():
            assert outcome.reason == expected
        case Refused():
            assert str(outcome.status) == expected
        case NotSent():
            pytest.fail("it was sent")


def test_a_simulated_stream_that_trickles_past_the_deadline_ends_on_time(
    client: TelnyxClient, simulator: Simulator
) -> None:
    simulator.inject("trickle", interval_s=0.1)
    started = time.monotonic()
    outcome, _ = call(client, replace(REQUEST, stream_idle_s=5.0), timeout_s=0.6)
    assert time.monotonic() - started < 0.6 + SLACK_S
    assert isinstance(outcome, Unknown)
    assert outcome.reason == "deadline passed"
