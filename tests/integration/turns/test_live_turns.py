"""Agents that stream: what a frontend hears of a turn, and that the stored reply is the truth."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from redis.client import PubSub

from tests.support.processes import eventually
from tests.support.world import NAMESPACE, HandDrivenWorker, World
from worker.channels.live import topic
from worker.domain.messages import ChannelAddress
from worker.sandbox.simulator import Match

USER = "visitor-1"
AGENTS = """
[agents.default]
stream = true
call_timeout_s = 5
tools = ["refund"]
[tools.refund]
function = "tests.support.toolbox:refund"
[channels.web]
supersede = true
[channels.quiet]
agent = "quiet"
[agents.quiet]
"""


@pytest.fixture
def world(world: World, broker_url: str) -> World:
    world.broker_url = broker_url
    return world


@pytest.fixture
def worker(world: World) -> HandDrivenWorker:
    return world.worker(AGENTS)


@pytest.fixture
def ear(world: World) -> Iterator[PubSub]:
    """A frontend that listens to one visitor."""
    who = ChannelAddress(channel="web", recipient="", address=USER, thread="")
    with Redis.from_url(world.broker_url) as redis, redis.pubsub() as subscription:
        subscription.subscribe(topic(NAMESPACE, who))
        assert subscription.get_message(timeout=5) is not None
        yield subscription


def hear(ear: PubSub, *, until: str) -> list[dict[str, Any]]:
    """Everything that is said up to a document of this type."""
    heard: list[dict[str, Any]] = []

    def said() -> bool:
        while message := ear.get_message(timeout=0.01):
            heard.append(json.loads(message["data"]))
        return bool(heard) and heard[-1]["type"] == until

    assert eventually(said), heard
    return heard


def say(world: World, text: str, **fields: object) -> dict[str, object]:
    return world.envelope(text, user=USER, channel="web", **fields)


def test_the_text_is_heard_while_it_is_made_and_is_the_stored_reply(
    world: World, worker: HandDrivenWorker, ear: PubSub
) -> None:
    worker.receive(say(world, "hello"))

    *deltas, final = hear(ear, until="final")
    (reply,) = world.replies()
    assert final == {"version": 1, "turn": reply["turn_id"], "attempt": 0, "type": "final"} | {
        "text": reply["text"]
    }
    assert [one["number"] for one in deltas] == list(range(len(deltas)))
    assert deltas
    assert reply["text"].startswith("".join(one["text"] for one in deltas))


def test_a_stream_that_breaks_off_is_taken_back_and_its_reply_adopted(
    world: World, worker: HandDrivenWorker, ear: PubSub
) -> None:
    world.simulator.inject("stream_cut", match=Match(text="hello"))
    worker.receive(say(world, "hello"))
    assert hear(ear, until="reset")[0]["type"] == "delta"
    assert world.replies() == []
    world.clock.advance(5)
    worker.answer()

    (reply,) = world.replies()
    assert reply["source"] == "adopted"
    heard = hear(ear, until="final")
    assert [one["type"] for one in heard] == ["reset", "final"]
    assert heard[-1]["text"] == reply["text"]


def test_a_later_round_is_a_later_attempt(
    world: World, worker: HandDrivenWorker, ear: PubSub
) -> None:
    worker.receive(say(world, 'tool:refund {"order": 7}'))

    heard = hear(ear, until="final")
    assert heard[0]["type"] == "reset", "nothing was said before the tool"
    assert {one["attempt"] for one in heard[1:]} == {1}
    assert "refunded 7" in heard[-1]["text"]


def test_a_reply_that_is_withheld_is_not_shown(
    world: World, worker: HandDrivenWorker, ear: PubSub
) -> None:
    worker.receive(say(world, "hello"))
    hear(ear, until="final")
    world.simulator.inject("stream_cut", match=Match(text="are you there"))
    worker.receive(say(world, "are you there"))
    hear(ear, until="reset")
    world.database.run("UPDATE channel_users SET paused_at = service_now()")
    world.clock.advance(5)
    worker.answer()

    assert [one["type"] for one in hear(ear, until="reset")] == ["reset"]
    states = world.database.rows("SELECT state FROM deliveries ORDER BY id")
    assert [one["state"] for one in states] == ["sent", "withheld"]


def test_an_agent_that_does_not_stream_publishes_nothing(
    world: World, worker: HandDrivenWorker
) -> None:
    with Redis.from_url(world.broker_url) as redis, redis.pubsub() as everything:
        everything.psubscribe("*")
        assert everything.get_message(timeout=5) is not None
        worker.receive(world.envelope("hello", user=USER, channel="quiet"))
        assert len(world.replies()) == 1
        redis.publish("the-end", "1")
        message = everything.get_message(timeout=5)
        assert message is not None
        assert message["channel"] == b"the-end"


def test_with_redis_away_the_reply_is_stored_all_the_same(world: World) -> None:
    world.broker_url = "redis://127.0.0.1:1/0"
    worker = world.worker(AGENTS)
    worker.receive(say(world, "hello"))

    assert [one["source"] for one in world.replies()] == ["call"]
