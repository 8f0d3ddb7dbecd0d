"""Two machines that answer each other are stopped; people are not."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.world import USER, HandDrivenWorker, World
from worker.observability import metrics

NAMES = "ann bob carla dimitri emre fatima george hana igor jun katrin lea"
AWAY = "Thank you for your message. I am out of the office until Monday, ticket {}."


def paused(world: World) -> list[dict[str, Any]]:
    return world.database.rows(
        "SELECT address, pause_reason FROM channel_users WHERE paused_at IS NOT NULL ORDER BY id"
    )


def say(world: World, worker: HandDrivenWorker, text: str, **fields: str) -> str | None:
    """A message comes in and is worked; gives the text of its reply."""
    before = len(world.replies())
    worker.receive(world.envelope(text, **fields))
    worker.answer()
    found = world.replies()[before:]
    return found[0]["text"] if found else None


def test_two_of_our_own_responders_that_face_each_other_are_stopped(world: World) -> None:
    worker = world.worker()
    numbers = ["+13125550001", "+17735550002"]
    text: str | None = "hello"
    for sent in range(100):
        user, recipient = numbers[sent % 2], numbers[(sent + 1) % 2]
        text = say(world, worker, text, user=user, recipient=recipient)
        if text is None:
            break
    else:
        pytest.fail("they go on and on")
    assert sent <= 20
    assert paused(world) == [{"address": user, "pause_reason": "loop"}]
    assert world.messages()[-1]["outcome"] == "human"


def test_the_fast_path_leaves_a_loop_to_the_breaker_and_resume_lifts_it(world: World) -> None:
    worker = world.worker()
    before = metrics.LOOPS.labels("address")._value.get()
    for number in range(10):
        assert say(world, worker, f"question {number}") is not None
        world.clock.advance(5)
    assert say(world, worker, "one more") is None
    assert paused(world) == [{"address": USER, "pause_reason": "loop"}]
    assert metrics.LOOPS.labels("address")._value.get() == before + 1
    user = world.database.value("SELECT id FROM channel_users")
    worker.operator.set_paused(user, paused=False)
    for number in range(10):
        assert say(world, worker, f"again {number}") is not None, "not stopped at once"
    assert say(world, worker, "and again") is None


def test_people_may_write_as_much_over_a_day_or_in_a_chat(world: World) -> None:
    worker = world.worker()
    for number in range(30):
        assert say(world, worker, f"question {number}") is not None
        assert say(world, worker, AWAY.format(number), channel="chat") is not None
        world.clock.advance(200)
    assert paused(world) == []


def test_the_breaker_may_be_switched_on_for_a_chat_and_off_for_a_telephone(world: World) -> None:
    worker = world.worker(
        "[channels.chat]\nloop_breaker = true\n[channels.sms]\nloop_breaker = false\n"
    )
    for number in range(10):
        assert say(world, worker, f"question {number}", channel="chat", user="ann") is not None
        assert say(world, worker, f"question {number}") is not None
    assert say(world, worker, "one more", channel="chat", user="ann") is None
    assert say(world, worker, "one more") is not None


def test_three_nearly_equal_texts_are_one_too_many(world: World) -> None:
    worker = world.worker()
    assert [say(world, worker, AWAY.format(at)) is None for at in range(3)] == [False, False, True]
    # The fast path takes what only begins alike.
    other = {"user": "+13125550009"}
    for text in (
        "Thank you for the blue shoes!",
        "Thank you for the red shoes!",
        "Thank you for all",
    ):
        assert say(world, worker, text, **other) is not None


ROTATING: dict[str, Callable[[int], dict[str, str]]] = {
    "threads": lambda at: {"user": "bot@crm.example", "thread": f"t{at}", "text": f"hello {at}"},
    "addresses": lambda at: {"user": f"{chr(97 + at) * 5}@crm.example", "text": AWAY.format(at)},
}


@pytest.mark.parametrize("kind", ROTATING)
def test_a_machine_that_is_somebody_new_each_time_is_stopped(world: World, kind: str) -> None:
    worker = world.worker()
    for at in range(10):
        assert say(world, worker, channel="email", **ROTATING[kind](at)) is not None
    assert say(world, worker, channel="email", **ROTATING[kind](10)) is None
    assert say(world, worker, "hello", channel="email", user="ann@crm.example") is not None


def test_ten_people_of_a_domain_are_answered(world: World) -> None:
    worker = world.worker()
    for name in NAMES.split():
        assert say(world, worker, "hello", channel="email", user=f"{name}@gmail.com") is not None
    assert paused(world) == []
