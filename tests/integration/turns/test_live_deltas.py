"""Text while it is made, on a real Redis: in order, and never in a turn's way."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid5

from redis import Redis
from redis.client import PubSub
from structlog.testing import capture_logs

from tests.support.databases import ROOT
from worker.channels.live import PAUSE_S, LiveReplies, LiveReply, topic
from worker.domain.messages import ChannelAddress
from worker.sandbox.redis import EmbeddedRedis

NAMESPACE = UUID("6a09cdc3-8948-47f0-aa62-74ac943d6c58")
WHO = ChannelAddress(channel="web", recipient="", address="jürgen", thread="session-1")
TOPIC = topic(NAMESPACE, WHO)
SLACK_S = 5.0


@dataclass
class Clock:
    """Time that passes only when told."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Listener:
    """A frontend."""

    subscription: PubSub
    heard: list[dict[str, Any]] = field(default_factory=list)

    def hear(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many documents are there; give all of them."""
        deadline = time.monotonic() + 10
        while len(self.heard) < count and time.monotonic() < deadline:
            message = self.subscription.get_message(timeout=0.5)
            if message is not None and message["type"] == "message":
                self.heard.append(json.loads(message["data"]))
        return self.heard


@contextlib.contextmanager
def listening(url: str) -> Iterator[Listener]:
    with Redis.from_url(url) as redis, redis.pubsub() as subscription:
        subscription.subscribe(TOPIC)
        assert subscription.get_message(timeout=5)["type"] == "subscribe"
        yield Listener(subscription)


@contextlib.contextmanager
def live_on(url: str, clock: Clock | None = None, interval_s: float = 0.0) -> Iterator[LiveReplies]:
    live = LiveReplies(url, clock=clock or Clock(), interval_s=interval_s)
    try:
        yield live
    finally:
        live.close()


def test_a_frontend_hears_a_reply_grow(broker_url: str) -> None:
    with live_on(broker_url) as live, listening(broker_url) as frontend:
        reply = LiveReply(live, TOPIC, turn=7, attempt=0)
        reply.text("Grü")
        reply.text("ße!")
        reply.done("Grüße!")
        about = {"version": 1, "turn": 7, "attempt": 0}
        assert frontend.hear(3) == [
            {**about, "type": "delta", "number": 0, "text": "Grü"},
            {**about, "type": "delta", "number": 1, "text": "ße!"},
            {**about, "type": "final", "text": "Grüße!"},
        ]


def test_pieces_that_come_fast_go_together(broker_url: str) -> None:
    clock = Clock()
    with live_on(broker_url, clock, interval_s=0.05) as live, listening(broker_url) as frontend:
        reply = LiveReply(live, TOPIC, turn=7, attempt=0)
        for piece in "abc":
            reply.text(piece)
        clock.now_s += 0.06
        reply.text("d")
        reply.text("e")
        reply.done("abcde")
        told = [(one["type"], one["text"]) for one in frontend.hear(3)]
    assert told == [("delta", "a"), ("delta", "bcd"), ("final", "abcde")]


def test_replies_of_many_threads_stay_in_order(broker_url: str) -> None:
    def talk(live: LiveReplies, turn: int) -> None:
        reply = LiveReply(live, TOPIC, turn=turn, attempt=0)
        for _ in range(20):
            reply.text("x")

    with live_on(broker_url) as live, listening(broker_url) as frontend, capture_logs() as logs:
        threads = [threading.Thread(target=talk, args=(live, turn)) for turn in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # A Redis that takes its time is left alone for a while, also one of a busy machine.
        heard = frontend.hear(0 if logs else 800)
    for turn in range(40):
        numbers = [one["number"] for one in heard if one["turn"] == turn]
        assert numbers == (sorted(set(numbers)) if logs else list(range(20)))


def test_nothing_is_asked_of_redis_before_there_is_a_text() -> None:
    with live_on("redis://127.0.0.1:1/0") as live, capture_logs() as logs:
        LiveReply(live, TOPIC, turn=7, attempt=0)
    assert logs == []


def test_a_redis_that_is_away_is_missed_once_a_pause_and_then_found_again(
    redis_server: EmbeddedRedis,
) -> None:
    clock = Clock()
    with live_on(redis_server.url, clock) as live:
        reply = LiveReply(live, TOPIC, turn=7, attempt=0)
        with listening(redis_server.url) as frontend:
            reply.text("a")
            frontend.hear(1)
        redis_server.kill()
        started = time.monotonic()
        with capture_logs() as logs:
            for piece in "bcd":
                reply.text(piece)
            clock.now_s += PAUSE_S + 1
            reply.text("e")
        assert time.monotonic() - started < SLACK_S
        lost = {"event": "live.paused", "error": "ConnectionError", "pause_s": PAUSE_S}
        assert logs == [{**lost, "log_level": "warning"}] * 2

        redis_server.restart()
        with listening(redis_server.url) as frontend:
            reply.text("f")
            clock.now_s += PAUSE_S + 1
            reply.text("g")
            reply.done("abcdefg")
            told = [(one.get("number"), one["text"]) for one in frontend.hear(2)]
    assert told == [(6, "g"), (None, "abcdefg")]


def test_a_connection_that_redis_closed_meanwhile_costs_nothing(broker_url: str) -> None:
    with live_on(broker_url) as live, listening(broker_url) as frontend:
        reply = LiveReply(live, TOPIC, turn=7, attempt=0)
        reply.text("a")
        frontend.hear(1)
        with Redis.from_url(broker_url) as redis:
            redis.client_kill_filter(_type="normal", skipme=True)
        reply.text("b")
        assert [one["text"] for one in frontend.hear(2)] == ["a", "b"]


def test_a_redis_that_takes_the_connection_and_says_nothing_costs_a_second() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/3?socket_timeout=60"
        with live_on(url) as live, capture_logs() as logs:
            threads = [
                threading.Thread(
                    target=LiveReply(live, TOPIC, turn=turn, attempt=0).text, args=("a",)
                )
                for turn in range(40)
            ]
            started = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert time.monotonic() - started < SLACK_S
    assert [one["event"] for one in logs] == ["live.paused"]


def test_no_log_line_shows_what_was_said_or_where_redis_is() -> None:
    with live_on("redis://:secret@127.0.0.1:1/0") as live, capture_logs() as logs:
        LiveReply(live, TOPIC, turn=7, attempt=0).text("Dear Mr. Miller")
    assert len(logs) == 1
    for hidden in ("Miller", "secret", "127.0.0.1", TOPIC):
        assert hidden not in str(logs)


def test_a_topic_names_one_channel_user_of_one_namespace_and_nobody_else() -> None:
    spelled = '["web","","jürgen","session-1"]'
    assert f"worker:live:{uuid5(NAMESPACE, spelled)}" == TOPIC
    others = [
        topic(UUID(int=1), WHO),
        topic(NAMESPACE, replace(WHO, channel="sms")),
        topic(NAMESPACE, replace(WHO, recipient="jürgen", address="")),
        topic(NAMESPACE, replace(WHO, address="JÜRGEN")),
        topic(NAMESPACE, replace(WHO, thread="session-2")),
    ]
    assert len({TOPIC, *others}) == 6


# The page that tells frontends.

PAGE = (ROOT / "docs/how-to/stream-to-a-web-chat.md").read_text()


def test_the_program_shown_to_frontends_shows_a_reply(broker_url: str) -> None:
    (program,) = re.findall(r"(?ms)^```py\n(.*?)^```", PAGE)
    environment = {
        "BROKER_URL": broker_url,
        "NAMESPACE": str(NAMESPACE),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    command = [sys.executable, "-W", "error", "-c", program, "web", "", "jürgen", "session-1"]
    with (
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as shown,
        Redis.from_url(broker_url) as redis,
        live_on(broker_url) as live,
    ):
        deadline = time.monotonic() + 20
        while not redis.pubsub_numsub(TOPIC)[0][1] and time.monotonic() < deadline:
            time.sleep(0.02)
        abandoned = LiveReply(live, TOPIC, turn=7, attempt=0)
        abandoned.text("Good ")
        abandoned.text("bye")
        abandoned.reset()
        reply = LiveReply(live, TOPIC, turn=7, attempt=1)
        reply.text("Hel")
        abandoned.text("late")
        reply.text("lo!")
        reply.done("Hello!")
        lines, _ = shown.communicate(timeout=20)
    steps = ["Good ", "Good bye", "", "Hel", "Hello!"]
    assert lines.splitlines() == [
        *(f"turn 7 so far: {step}" for step in steps),
        "turn 7 is: Hello!",
    ]


def test_the_documents_shown_are_those_that_are_sent(broker_url: str) -> None:
    (block,) = re.findall(r"(?ms)^```jsonl\n(.*?)^```", PAGE)
    shown = [json.loads(line) for line in block.splitlines()]
    with live_on(broker_url) as live, listening(broker_url) as frontend:
        failed = LiveReply(live, TOPIC, turn=4711, attempt=0)
        failed.text(shown[0]["text"])
        failed.reset()
        reply = LiveReply(live, TOPIC, turn=4711, attempt=1)
        reply.text(shown[2]["text"])
        reply.done(shown[3]["text"])
        assert frontend.hear(4) == shown
