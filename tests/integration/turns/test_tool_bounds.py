"""Answers that ask for too many tools, or in a form that nobody should write."""

from hashlib import sha256
from typing import Any

import pytest

from tests.integration.turns.test_tool_rounds import AGENTS, envelope, ran
from tests.support.world import HandDrivenWorker, World
from worker.domain.turns.wanted_tools import MAX_CALLS
from worker.sandbox.simulator.behaviour.model import Script
from worker.sandbox.simulator.record.events import RequestReceived

ARGUMENTS = '{"order": 42}'
LONG_ID = "".join(sha256(b"%d" % number).hexdigest() for number in range(313))[:20_000]
"""Of letters that Postgres cannot compress, for its index could hold any number of one letter."""


@pytest.fixture
def worker(world: World) -> HandDrivenWorker:
    return world.worker(AGENTS)


def item(**fields: object) -> dict[str, Any]:
    usual = {"type": "function_call", "name": "order_status", "arguments": ARGUMENTS}
    return {name: value for name, value in (usual | fields).items() if value != "left out"}


def ask(world: World, worker: HandDrivenWorker, *items: dict[str, Any]) -> None:
    """Let the model write these calls, and then answer what it gets back."""
    world.simulator.script(Script(text="hello", items=items))
    worker.receive(envelope(world, "hello"))


def calls(world: World) -> list[dict[str, Any]]:
    return world.database.rows(
        "SELECT call_id, given_ids, state, output FROM tool_calls ORDER BY id"
    )


def posts(world: World) -> int:
    events = [entry.event for entry in world.simulator.log()]
    return sum(isinstance(one, RequestReceived) and one.endpoint == "responses" for one in events)


def outputs(world: World) -> list[str]:
    (conversation,) = world.simulator.conversations()
    return [
        message.text or ""
        for message in world.simulator.messages(conversation.id)
        if message.role == "tool"
    ]


def test_five_thousand_calls_are_bounded_and_each_has_an_outcome(
    world: World, worker: HandDrivenWorker
) -> None:
    ask(world, worker, *(item(call_id=f"call_{number}") for number in range(5000)))

    assert [reply["source"] for reply in world.replies()] == ["call"]
    assert len(ran(world)) == MAX_CALLS
    assert len(calls(world)) == MAX_CALLS + 1
    assert len(outputs(world)) == 5000
    assert "at most" in outputs(world)[-1]
    assert posts(world) == 2
    worker.receive(envelope(world, "and now?"))
    assert [row["outcome"] for row in world.messages()] == ["answered"] * 2


@pytest.mark.parametrize(
    ("items", "runs"),
    [
        pytest.param([item(call_id=LONG_ID)], 1, id="an id of 20,000 bytes"),
        pytest.param([item(call_id="a"), item(call_id="a")], 2, id="one id twice"),
        pytest.param([item(call_id="left out"), item(call_id="left out")], 2, id="no id"),
        pytest.param([item(call_id=None)], 1, id="id null"),
        pytest.param([item(call_id=""), item(call_id="b")], 2, id="id empty"),
        pytest.param([item(call_id="worker_1"), item(call_id="")], 2, id="an id like ours"),
        pytest.param([item(call_id="a", arguments={"order": 42})], 1, id="arguments an object"),
        pytest.param([item(call_id="a", arguments=None)], 0, id="arguments null"),
        pytest.param([item(call_id="a", arguments="null")], 0, id="arguments 'null'"),
        pytest.param([item(call_id="a", arguments="left out")], 0, id="no arguments"),
        pytest.param([item(call_id="a", arguments=[1])], 0, id="arguments a list"),
        pytest.param([item(call_id="a", arguments="x" * 70_000)], 0, id="arguments too large"),
        pytest.param([item(call_id="a", name="left out")], 0, id="no name"),
        pytest.param([item(call_id="a", name="n" * 20_000)], 0, id="a long name"),
    ],
)
def test_a_call_in_any_form_has_an_outcome_and_the_turn_an_answer(
    world: World, worker: HandDrivenWorker, items: list[dict[str, Any]], runs: int
) -> None:
    ask(world, worker, *items)

    assert [reply["source"] for reply in world.replies()] == ["call"]
    assert len(ran(world)) == runs
    assert len(outputs(world)) == len(items)
    assert all(row["state"] != "started" for row in calls(world))
    assert posts(world) == 2
    worker.receive(envelope(world, "and now?"))
    assert [row["outcome"] for row in world.messages()] == ["answered"] * 2


def test_null_is_a_call_without_arguments(world: World, worker: HandDrivenWorker) -> None:
    ask(world, worker, item(call_id="a", name="refuse", arguments=None))

    assert ran(world) == ["refuse"]
    assert "not on a Sunday" in outputs(world)[0]


@pytest.mark.parametrize("call_id", ["a", "", LONG_ID])
def test_calls_that_are_adopted_from_the_thread_are_paired_by_position(
    world: World, worker: HandDrivenWorker, call_id: str
) -> None:
    world.simulator.inject("stored_then_dropped")
    ask(world, worker, item(call_id=call_id), item(call_id=call_id))
    for _ in range(6):
        world.clock.advance(5)
        worker.service.background.workers.beat()
        worker.answer()

    assert [row["outcome"] for row in world.messages()] == ["answered"]
    assert ran(world) == ["order_status"] * 2
    assert len(outputs(world)) == 2
