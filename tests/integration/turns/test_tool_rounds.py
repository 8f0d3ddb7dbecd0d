"""Turns in which the model asks for tools: rounds, records, refusals, what a crash leaves."""

import json
from typing import Any

import pytest

from tests.support.world import HandDrivenWorker, World
from worker.sandbox.simulator import Match
from worker.sandbox.simulator.behaviour.model import Script

AGENTS = """
[agents.default]
instructions = "be kind"
call_timeout_s = 5
max_tool_rounds = 3
fallback_text = "Somebody will write to you."
tools = ["order_status", "refund", "refuse", "meet"]
[channels.loose]
persist = false
[tools.order_status]
function = "tests.support.toolbox:order_status"
honours_key = true
[tools.refund]
function = "tests.support.toolbox:refund"
[tools.refuse]
function = "tests.support.toolbox:refuse"
[tools.meet]
function = "tests.support.toolbox:meet"
"""
QUIET_S = 2 + 5 + 90 + 13
ASK = 'tool:order_status {"order": 42}'


@pytest.fixture
def worker(world: World) -> HandDrivenWorker:
    return world.worker(AGENTS)


def envelope(world: World, text: str, **fields: object) -> dict[str, object]:
    ledger = str(world.folder / "ledger.jsonl")
    return world.envelope(text, metadata={"ledger": ledger}, **fields)


def ran(world: World) -> list[str]:
    """The tools that ran, in order."""
    path = world.folder / "ledger.jsonl"
    return (
        [json.loads(line)["tool"] for line in path.read_text().splitlines()]
        if path.exists()
        else []
    )


def tool_calls(world: World) -> list[dict[str, Any]]:
    return world.database.rows(
        "SELECT round, name, state, output, answered_at IS NOT NULL AS answered"
        " FROM tool_calls ORDER BY id"
    )


def roles(world: World) -> list[str]:
    """The thread of the only conversation."""
    (conversation,) = world.simulator.conversations()
    return [
        "calls" if message.tool_calls else message.role
        for message in world.simulator.messages(conversation.id)
        if message.role != "system" and (message.tool_calls or message.text)
    ]


def test_the_model_asks_for_a_tool_and_answers_with_what_it_gave(
    world: World, worker: HandDrivenWorker
) -> None:
    worker.receive(envelope(world, ASK))

    (reply,) = world.replies()
    assert "I looked it up for you" in reply["text"]
    assert "shipped" in reply["text"]
    (call,) = tool_calls(world)
    assert (call["round"], call["name"], call["state"]) == (0, "order_status", "done")
    assert json.loads(call["output"]) == {"order": 42, "status": "shipped"}
    assert call["answered"]
    assert roles(world) == ["user", "calls", "tool", "assistant"]
    rounds = world.database.rows("SELECT round, attempt, state FROM calls ORDER BY id")
    assert rounds == [
        {"round": 0, "attempt": 0, "state": "done"},
        {"round": 1, "attempt": 0, "state": "done"},
    ]


def test_calls_of_one_answer_run_at_the_same_time(world: World, worker: HandDrivenWorker) -> None:
    worker.receive(envelope(world, "tool:meet\ntool:meet"))

    assert [call["output"] for call in tool_calls(world)] == ["met", "met"]
    assert len(world.replies()) == 1


def test_a_tool_may_lead_to_the_next(world: World, worker: HandDrivenWorker) -> None:
    script = Script(text="shipped", calls=(("refund", '{"order": 42}'),))
    world.simulator.script(script)
    worker.receive(envelope(world, ASK))

    assert ran(world) == ["order_status", "refund"]
    assert [call["round"] for call in tool_calls(world)] == [0, 1]
    assert roles(world) == ["user", "calls", "tool", "calls", "tool", "assistant"]


@pytest.mark.parametrize(
    ("ask", "output"),
    [
        ("tool:refuse", "not on a Sunday"),
        ('tool:order_status {"order": "blue"}', "order"),
        ("tool:order_status {not json", "JSON"),
    ],
)
def test_a_tool_that_fails_tells_the_model_so_and_the_turn_goes_on(
    world: World, worker: HandDrivenWorker, ask: str, output: str
) -> None:
    worker.receive(envelope(world, ask))

    (call,) = tool_calls(world)
    assert call["state"] == "failed"
    assert output in call["output"]
    assert len(world.replies()) == 1


def test_a_tool_that_the_agent_does_not_have_is_answered_as_such(
    world: World, worker: HandDrivenWorker
) -> None:
    world.simulator.script(Script(text="hello", calls=(("launch", "{}"),)))
    worker.receive(envelope(world, "hello"))

    (call,) = tool_calls(world)
    assert (call["state"], call["output"]) == ("failed", "error: there is no such tool")
    assert len(world.replies()) == 1


def test_a_model_that_only_asks_for_tools_ends_in_the_fallback_and_the_next_turn_goes_on(
    world: World, worker: HandDrivenWorker
) -> None:
    greedy = Script(text="", calls=(("order_status", '{"order": 1}'),), count=4)
    world.simulator.script(greedy)
    worker.receive(envelope(world, "how is it going"))

    assert [one["source"] for one in world.replies()] == ["fallback"]
    assert ran(world) == ["order_status"] * 3
    assert [call["answered"] for call in tool_calls(world)] == [True, True, True, False]
    assert "tools" not in json.dumps(list(requests(world)[-1])), "the last call offers none"

    worker.receive(envelope(world, "still there?"))
    assert [call["answered"] for call in tool_calls(world)] == [True] * 4
    types = [item.get("type") or item["role"] for item in requests(world)[-1]["input"]]
    assert types == ["function_call_output", "user"]
    assert [one["source"] for one in world.replies()] == ["fallback", "call"]


def requests(world: World) -> list[dict[str, Any]]:
    """The bodies of the calls, oldest first."""
    return [
        entry.event.body
        for entry in world.simulator.log()
        if getattr(entry.event, "endpoint", None) == "responses" and hasattr(entry.event, "body")
    ]


def test_without_a_conversation_each_round_carries_the_whole_exchange(
    world: World, worker: HandDrivenWorker
) -> None:
    worker.receive(envelope(world, ASK, channel="loose"))

    assert len(world.replies()) == 1
    first, second = requests(world)
    assert "conversation" not in second
    assert [item.get("type") or item["role"] for item in second["input"]] == [
        "user",
        "function_call",
        "function_call_output",
    ]
    assert second["instructions"] == first["instructions"] == "be kind"


def test_instructions_go_with_the_first_round_alone(world: World, worker: HandDrivenWorker) -> None:
    worker.receive(envelope(world, ASK))

    assert ["instructions" in body for body in requests(world)] == [True, False]


def test_a_lost_answer_that_asked_for_tools_is_adopted_and_they_run_once(
    world: World, worker: HandDrivenWorker
) -> None:
    world.simulator.inject("stored_then_dropped", match=Match(text="tool:"))
    worker.receive(envelope(world, 'tool:refund {"order": 42}'))
    assert ran(world) == []
    world.clock.advance(5)
    worker.answer()

    assert ran(world) == ["refund"]
    assert len(world.replies()) == 1
    assert roles(world) == ["user", "calls", "tool", "assistant"]


def test_a_lost_answer_to_the_outputs_is_adopted(world: World, worker: HandDrivenWorker) -> None:
    world.simulator.inject("stored_then_dropped", match=Match(text="shipped"))
    worker.receive(envelope(world, ASK))
    assert world.replies() == []
    world.clock.advance(5)
    worker.answer()

    assert [one["source"] for one in world.replies()] == ["adopted"]
    assert ran(world) == ["order_status"]
    assert roles(world) == ["user", "calls", "tool", "assistant"]


def test_outputs_that_never_arrived_are_sent_again_after_t_quiet_without_running_anything(
    world: World, worker: HandDrivenWorker
) -> None:
    world.simulator.inject("dropped", match=Match(text="refunded"))
    worker.receive(envelope(world, 'tool:refund {"order": 42}'))
    world.clock.advance(5)
    worker.answer()
    assert world.replies() == []
    world.clock.advance(QUIET_S)
    worker.service.background.workers.beat()
    worker.answer()

    assert [one["source"] for one in world.replies()] == ["call"]
    assert ran(world) == ["refund"]
    assert roles(world) == ["user", "calls", "tool", "assistant"]


def test_a_conversation_that_vanishes_between_two_rounds_is_replaced_and_nothing_runs_twice(
    world: World, worker: HandDrivenWorker
) -> None:
    world.simulator.inject("dropped", match=Match(text="refunded"))
    worker.receive(envelope(world, 'tool:refund {"order": 42}'))
    (conversation,) = world.simulator.conversations()
    world.simulator.delete_conversation(conversation.id)
    world.clock.advance(5)
    worker.answer()

    assert [one["source"] for one in world.replies()] == ["call"]
    assert ran(world) == ["refund"]
    assert [item.get("type") or item["role"] for item in requests(world)[-1]["input"]] == [
        "user",
        "function_call",
        "function_call_output",
    ]
