"""Dead letters: kept, shown, replayed once, dismissed."""

import json
import threading

import pytest

from tests.support.world import HandDrivenWorker, World
from worker.domain.states import Resolution
from worker.handlers.operators.replay import NotReplayableError


def refuse(world: World, mike: HandDrivenWorker, text: str) -> None:
    """Have a message refused for good: twice, and each time judged settle_s after the call."""
    world.simulator.inject("400", count=2)
    mike.receive(world.envelope(text))
    for _ in range(2):
        world.clock.advance(16)
        mike.service.background.workers.beat(0.0)
        mike.answer()


def test_a_refused_message_is_a_dead_letter_and_blocks_only_itself(world: World) -> None:
    mike = world.worker()
    refuse(world, mike, "poison")
    mike.receive(world.envelope("fine"))
    mike.answer()
    assert [row["outcome"] for row in world.messages()] == ["refused", "answered"]
    (letter,) = mike.operator.dead_letters.find()
    assert (letter.kind, letter.reason) == ("message", "refused")
    assert mike.operator.dead_letters.find(reason="other") == ()


def test_two_replays_at_the_same_moment_answer_once(world: World) -> None:
    mike = world.worker()
    refuse(world, mike, "poison")
    (letter,) = mike.operator.dead_letters.find()
    barrier, refused = threading.Barrier(8), []

    def replay() -> None:
        barrier.wait()
        try:
            mike.operator.replay(letter.id)
        except NotReplayableError as error:
            refused.append(error)

    threads = [threading.Thread(target=replay) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mike.answer()

    assert len(refused) == 7
    assert world.inputs() == ["poison"]
    assert len(world.replies()) == 1
    assert mike.operator.dead_letters.find() == ()
    assert mike.operator.dead_letters.find(resolved=True)[0].resolution == "replayed"


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_envelope_is_replayed_when_what_was_wrong_is_fixed(world: World, wrapped: bool) -> None:
    mike = world.worker()
    envelope = world.envelope("hello", agent="sales")
    body = json.dumps([[], {"envelope": envelope}, {}])
    raw = json.dumps({"body": body, "properties": {}}) if wrapped else body
    mike.service.receive(envelope, raw=raw.encode, queue="inbound")
    (letter,) = mike.operator.dead_letters.find()
    with pytest.raises(NotReplayableError, match="agent"):
        mike.operator.replay(letter.id)

    anna = world.worker("[agents.default]\n[agents.sales]\n")
    anna.operator.replay(letter.id)
    anna.answer()
    assert world.inputs() == ["hello"]
    with pytest.raises(NotReplayableError, match="replayed already"):
        anna.operator.replay(letter.id)


def test_a_dismissed_dead_letter_stays_and_is_not_replayed(world: World) -> None:
    mike = world.worker()
    mike.receive({"version": 2})
    (letter,) = mike.operator.dead_letters.find()
    assert mike.operator.dead_letters.resolve(letter.id, Resolution.DISMISSED)
    assert not mike.operator.dead_letters.resolve(letter.id, Resolution.DISMISSED)
    with pytest.raises(NotReplayableError, match="dismissed already"):
        mike.operator.replay(letter.id)
    with pytest.raises(NotReplayableError, match="no dead letter"):
        mike.operator.replay(type(letter.id)(999))
