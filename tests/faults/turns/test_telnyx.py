"""One test for each thing that Telnyx, or the way to it, may do to a call."""

import pytest

from tests.support.processes import eventually
from tests.support.world import World

FAST_CALLS = "[agents.default]\ncall_timeout_s = 0.3\n"
"""So that a hanging call ends soon; the waits of the protocol are on the clock that tests move."""
QUIET_S = 2 + 0.3 + 90 + 13


def heal(world: World, *, seconds: float = 1000, step: float = 5) -> None:
    """Let time pass and workers sweep until everything has ended."""
    anna = world.worker(FAST_CALLS)
    for _ in range(int(seconds / step)):
        anna.answer()
        if not world.database.rows("SELECT FROM messages WHERE outcome IS NULL"):
            return
        world.clock.advance(step)
        anna.service.background.workers.beat()
    raise AssertionError(f"not final after {seconds} s: {world.messages()}")


@pytest.mark.parametrize(
    "fault",
    [
        "stored_then_dropped",
        "stored_then_429",
        "stored_then_400",
        "stored_then_500",
        "stored_then_503",
        "stored_then_hang",
        "stored_then_reset",
        "trickle",
        "cut",
        "truncated",
        "empty",
    ],
)
def test_a_turn_that_was_stored_is_adopted_and_never_sent_again(world: World, fault: str) -> None:
    world.simulator.inject(fault)
    world.worker(FAST_CALLS).receive(world.envelope("hello"))
    heal(world)

    assert world.inputs() == ["hello"]
    (reply,) = world.replies()
    assert reply["source"] == "adopted"
    assert "hello" in reply["text"]


@pytest.mark.parametrize("fault", ["429", "500", "503", "429_retry_after"])
def test_a_refusal_that_stored_nothing_is_sent_again_after_a_look(world: World, fault: str) -> None:
    world.simulator.inject(fault)
    world.worker(FAST_CALLS).receive(world.envelope("hello"))
    heal(world)

    assert world.inputs() == ["hello"]
    assert [reply["source"] for reply in world.replies()] == ["call"]


@pytest.mark.parametrize(
    "fault", ["dropped", "reset", "hang", "408", "409", "502_html", "503_empty"]
)
def test_a_call_that_stored_nothing_is_sent_again_only_after_t_quiet(
    world: World, fault: str
) -> None:
    world.simulator.inject(fault)
    anna = world.worker(FAST_CALLS)
    anna.receive(world.envelope("hello"))
    for _ in range(int(QUIET_S / 5) - 1):
        world.clock.advance(5)
        anna.service.background.workers.beat()
        anna.answer()
    assert world.inputs() == []
    heal(world)

    assert world.inputs() == ["hello"]
    assert [reply["source"] for reply in world.replies()] == ["call"]


def test_a_call_executed_long_after_we_left_is_adopted(world: World) -> None:
    world.simulator.inject("stored_late", after_s=0.5)
    anna = world.worker(FAST_CALLS)
    anna.receive(world.envelope("hello"))
    anna.answer()
    assert world.inputs() == []
    assert eventually(lambda: world.inputs() == ["hello"])
    heal(world)
    assert world.inputs() == ["hello"]
    assert [reply["source"] for reply in world.replies()] == ["adopted"]


def test_an_item_that_never_gets_an_answer_ends_in_the_fallback(world: World) -> None:
    config = FAST_CALLS + 'fallback_text = "We will call you back."\n'
    world.simulator.inject("input_then_dropped")
    mike = world.worker(config)
    mike.receive(world.envelope("hello"))
    for _ in range(60):
        world.clock.advance(5)
        mike.service.background.workers.beat()
        mike.answer()
    mike.receive(world.envelope("and now?"))

    assert world.inputs() == ["hello", "and now?"]
    assert [reply["source"] for reply in world.replies()] == ["fallback", "call"]
    assert [row["outcome"] for row in world.messages()] == ["fallback", "answered"]
