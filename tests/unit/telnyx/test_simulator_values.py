"""The simulator's pure parts."""

from dataclasses import fields

import pytest

from worker.sandbox.simulator import (
    Draft,
    Entry,
    Overlap,
    SimulatorConfig,
    ToolCall,
    overlaps,
    prefix_hash,
)
from worker.sandbox.simulator.behaviour.config import changed
from worker.sandbox.simulator.record.events import ExecutionEnded, RequestReceived, Started


def received(seq: int, at: float, conversation_id: str = "c") -> Entry:
    event = RequestReceived(
        method="POST",
        path="/",
        endpoint="responses",
        conversation_id=conversation_id,
        headers={},
        body_bytes=0,
        body_digest="",
    )
    return Entry(seq=seq, at=at, event=event)


def ended(request: int, at: float) -> Entry:
    return Entry(seq=100 + request, at=at, event=ExecutionEnded(request=request))


def test_a_prefix_hash_depends_on_roles_texts_calls_and_order() -> None:
    one, two = Draft(role="user", text="a"), Draft(role="assistant", text="b")
    call = ToolCall(id="x", name="f", arguments="{}")
    histories = [
        [],
        [one],
        [one, two],
        [two, one],
        [Draft(role="assistant", text="a")],
        [Draft(role="assistant", text=None, tool_calls=(call,))],
        [Draft(role="user", text="ab")],
        [Draft(role="user", text="a\ud800")],
    ]
    assert len({prefix_hash(each) for each in histories}) == len(histories)


def test_instructions_and_reasoning_do_not_count_in_a_prefix_hash() -> None:
    said = Draft(role="user", text="a")
    silent = [
        Draft(role="system", text="be kind", origin="instructions"),
        Draft(role="assistant", text=None, origin="reasoning"),
    ]
    assert prefix_hash([silent[0], said, silent[1]]) == prefix_hash([said])


def test_spans_that_touch_do_not_overlap_and_slack_forgives() -> None:
    log = [received(1, 0), ended(1, 1), received(2, 1), ended(2, 3), received(3, 2.9), ended(3, 4)]
    assert overlaps(log) == (Overlap(conversation_id="c", earlier=2, later=3),)
    assert overlaps(log, slack_s=0.2) == ()


def test_a_request_without_an_end_overlaps_until_the_simulator_is_restarted() -> None:
    restart = Entry(seq=50, at=2, event=Started(seed=0))
    assert len(overlaps([received(1, 0), received(2, 3)])) == 1
    assert overlaps([received(1, 0), restart, received(2, 3)]) == ()
    assert overlaps([received(1, 0), received(2, 3, "other")]) == ()


def test_every_setting_can_be_changed_and_a_wrong_one_is_refused() -> None:
    config = SimulatorConfig()
    same = {each.name: getattr(config, each.name) for each in fields(config)}
    assert changed(config, same) == config
    assert changed(config, {"edge_timeout_s": None, "latency_s": "2"}).latency_s == 2
    for wrong in ({"messages_order": "sideways"}, {"fault_chances": {"500": "often"}}):
        with pytest.raises(ValueError, match="validation error"):
            changed(config, wrong)


def test_a_chance_for_a_fault_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no such fault: nonsense"):
        SimulatorConfig(fault_chances={"nonsense": 0.1})
