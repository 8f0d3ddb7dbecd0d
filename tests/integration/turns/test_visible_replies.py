"""Replies never show a model's thoughts, its markup, or nothing at all."""

import json

import pytest
from redis.client import PubSub

from tests.integration.turns.test_live_turns import ear, hear, say
from tests.support.world import HandDrivenWorker, World
from worker.sandbox.simulator import Match
from worker.sandbox.simulator.behaviour.model import Script

__all__ = ["ear"]

FALLBACK = "We will call you back."
AGENTS = f"""
[agents.default]
stream = true
call_timeout_s = 5
fallback_text = "{FALLBACK}"
[agents.plain]
call_timeout_s = 5
fallback_text = "{FALLBACK}"
[channels.plain]
agent = "plain"
[channels.loose]
agent = "plain"
persist = false
"""
TELLS = ("think", "Somebody wrote", "tool_call")


@pytest.fixture
def world(world: World, broker_url: str) -> World:
    world.broker_url = broker_url
    return world


@pytest.fixture
def worker(world: World) -> HandDrivenWorker:
    return world.worker(AGENTS)


def is_clean(text: str) -> bool:
    return not any(word in text for word in TELLS)


@pytest.mark.parametrize("channel", ["web", "plain", "loose"])
@pytest.mark.parametrize("fault", ["think", "think_stray"])
def test_thoughts_are_left_out_of_the_reply(
    world: World, worker: HandDrivenWorker, fault: str, channel: str
) -> None:
    world.simulator.inject(fault)
    worker.receive(world.envelope("hello", channel=channel))

    (reply,) = world.replies()
    assert reply["source"] == "call"
    assert is_clean(reply["text"])
    assert reply["text"].startswith("Thanks for writing!")


@pytest.mark.parametrize("channel", ["web", "plain", "loose"])
@pytest.mark.parametrize("fault", ["think_unclosed", "tool_markup", "invisible"])
def test_nothing_visible_is_the_fallback(
    world: World, worker: HandDrivenWorker, fault: str, channel: str
) -> None:
    world.simulator.reconfigure(show_prefix=False)
    world.simulator.inject(fault)
    worker.receive(world.envelope("hello", channel=channel))

    (reply,) = world.replies()
    assert (reply["source"], reply["text"]) == ("fallback", FALLBACK)


@pytest.mark.parametrize("fault", ["think", "think_stray", "think_unclosed", "invisible"])
def test_an_adopted_reply_is_as_clean(world: World, worker: HandDrivenWorker, fault: str) -> None:
    world.simulator.reconfigure(show_prefix=False)
    world.simulator.inject(fault, wire="drop")
    worker.receive(world.envelope("hello", channel="plain"))
    for _ in range(50):
        world.clock.advance(5)
        worker.service.background.workers.beat()
        worker.answer()

    (reply,) = world.replies()
    assert is_clean(reply["text"])
    shown = fault in {"think", "think_stray"}
    assert reply["source"] == ("adopted" if shown else "fallback")


@pytest.mark.parametrize("fault", ["think", "think_unclosed", "tool_markup"])
def test_a_frontend_never_sees_them_either(
    world: World,
    worker: HandDrivenWorker,
    ear: PubSub,
    fault: str,
) -> None:
    world.simulator.inject(fault, match=Match(text="hello"))
    worker.receive(say(world, "hello"))

    heard = hear(ear, until="final")
    assert is_clean(json.dumps(heard))


def test_a_stray_tag_takes_back_what_was_shown(
    world: World,
    worker: HandDrivenWorker,
    ear: PubSub,
) -> None:
    world.simulator.inject("think_stray", match=Match(text="hello"))
    worker.receive(say(world, "hello"))

    *_, reset, final = hear(ear, until="final")
    assert reset["type"] == "reset"
    assert is_clean(final["text"])


@pytest.mark.parametrize(
    "text",
    [
        "What is a <div>?",
        "How do I close </think> in HTML?",
        "<b>bold</b>",
        "Is <think>a</think> valid?",
    ],
)
def test_a_question_about_html_is_untouched(
    world: World, worker: HandDrivenWorker, text: str
) -> None:
    world.simulator.script(Script(text=text, reply=f"You asked: {text}"))
    worker.receive(world.envelope(text, channel="plain"))

    assert world.inputs() == [text]
    assert text in world.replies()[0]["text"]
