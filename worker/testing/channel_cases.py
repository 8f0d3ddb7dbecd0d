"""The promises of every channel as tests, for authors of channels.

    class TestMyChannel(ChannelCases):
        @contextmanager
        def stage(self) -> Iterator[Stage]:
            with my_fake_provider() as provider:
                yield MyStage(provider, MyChannel(provider.url))

A `Stage` is the channel and the other side of it, such as a real server in a thread, which the
cases make fail. They run under pytest, and under unittest together with `unittest.TestCase`, and
need neither.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from enum import Enum, auto
from itertools import count
from types import UnionType
from typing import Final, Protocol
from unittest import SkipTest
from uuid import uuid4

from worker.channels.channel import DEADLINE_S, Channel
from worker.domain.deliveries import DeliveryOutcome, NotDelivered, OutgoingReply, Sent, Unclear
from worker.domain.ids import ChannelUserId, DeliveryId
from worker.domain.messages import ChannelAddress

SLACK_S: Final = 2.0
"""Beyond the deadline, for a busy machine; the lease lasts longer."""
THREADS: Final = 8
TEXTS: Final = (
    "Yes, until 8 pm.",
    "Grüße aus Köln, 你好, שלום, 👩‍👩‍👧‍👦",
    "two\nlines and a tab\t",
    "<b>&amp;</b> \"quoted\" 'and' \\ %s {} \x7f",
    "x" * 60_000,
)


class Weather(Enum):
    """The state of the other side."""

    FINE = auto()
    """It takes every reply."""
    AWAY = auto()
    """Nobody answers, or the answer is a refusal for now."""
    SILENT = auto()
    """It takes the request, keeps nothing, and never answers."""
    ANSWER_LOST = auto()
    """It takes the reply and keeps it; the answer never arrives."""


class Stage(Protocol):
    """One channel and the other side of it, as a test has them."""

    @property
    def channel(self) -> Channel:
        """The channel under test."""

    @property
    def deadline_s(self) -> float:
        """The longest that one attempt of it takes; tests may build it with less than usual."""

    def turn(self, weather: Weather) -> bool:
        """Change the other side, from now on; False = it cannot be played here."""

    def kept(self) -> Sequence[str]:
        """Return the texts that have reached the person by now, in order.

        Those that the other side dropped as a repetition are not among them.
        """


_numbers = count(1)


def reply_of(text: str, *, user: str = "user-1") -> OutgoingReply:
    """Build a reply with a key of its own."""
    number = next(_numbers)
    return OutgoingReply(
        delivery_id=DeliveryId(number),
        user_id=ChannelUserId(1),
        idempotency_key=uuid4(),
        to=ChannelAddress(channel="cases", recipient="shop", address=user, thread=""),
        text=text,
        message_ids=(f"m-{number}",),
        metadata={"ticket": "4711"},
    )


class ChannelCases:
    """The cases. Each takes a stage of its own."""

    def stage(self) -> AbstractContextManager[Stage]:
        """Set up channel and other side, in fine weather."""
        raise NotImplementedError

    def test_replies_arrive_as_they_are_and_in_order(self) -> None:
        """Every text arrives whole, and the outcome is `Sent`."""
        with self.stage() as stage:
            for text in TEXTS:
                _expect(Sent, _attempt(stage, reply_of(text)), "it was taken")
            _expect_kept(stage, TEXTS, "the texts are not what was sent")

    def test_two_replies_with_the_same_words_both_arrive(self) -> None:
        """The key distinguishes replies, never the text: people get "ok" twice."""
        with self.stage() as stage:
            for _ in range(2):
                _expect(Sent, _attempt(stage, reply_of("ok")), "it was taken")
            _expect_kept(stage, ["ok", "ok"], "one of two different replies is missing")

    def test_it_says_the_truth_about_keys(self) -> None:
        """If `takes_key` is true, a repetition under the same key does nothing."""
        with self.stage() as stage:
            reply = reply_of("once, please")
            _expect(Sent, _attempt(stage, reply), "it was taken")
            # Without a key a repetition may arrive: the worker knows, and limits its attempts.
            if stage.channel.takes_key:
                for _ in range(2):
                    _expect(Sent, _attempt(stage, reply), "a repetition has been taken before")
                _expect_kept(stage, ["once, please"], "takes_key is not true")

    def test_who_is_away_has_not_got_it(self) -> None:
        """No exception, no `Sent`, and no final refusal: the other side may come back."""
        with self.stage() as stage:
            _play(stage, Weather.AWAY)
            reply = reply_of("are you there?")
            _expect(NotDelivered | Unclear, _attempt(stage, reply), "nobody is there")
            _expect_kept(stage, [], "the stage is not right: it kept one while away")
            _play(stage, Weather.FINE)
            _expect(Sent, _attempt(stage, reply), "the other side is back")

    def test_silence_ends_at_the_deadline(self) -> None:
        """A request that is never answered is `Unclear`, and in time."""
        with self.stage() as stage:
            _play(stage, Weather.SILENT)
            outcome = _attempt(stage, reply_of("hello?"))
            _expect(Unclear, outcome, "for all that is known it was taken")

    def test_a_lost_answer_leaves_it_open(self) -> None:
        """A channel that cannot know must not report NotDelivered: it would be sent twice."""
        with self.stage() as stage:
            _play(stage, Weather.ANSWER_LOST)
            reply = reply_of("did you get it?")
            _expect(Sent | Unclear, _attempt(stage, reply), "it was taken")
            _play(stage, Weather.FINE)
            if stage.channel.takes_key:
                _expect(Sent, _attempt(stage, reply), "a repetition has been taken before")
                _expect_kept(stage, ["did you get it?"], "it arrived twice, or never")

    def test_many_threads_share_it(self) -> None:
        """One instance serves all threads."""
        with self.stage() as stage, ThreadPoolExecutor(THREADS) as pool:
            replies = [reply_of(f"number {n}", user=f"user-{n}") for n in range(THREADS)]
            for outcome in pool.map(lambda reply: _attempt(stage, reply), replies):
                _expect(Sent, outcome, "it was taken")
            kept, sent = sorted(stage.kept()), sorted(reply.text for reply in replies)
            _check(kept == sent, f"{len(sent)} were sent at once, {len(kept)} kept")


def _play(stage: Stage, weather: Weather) -> None:
    if not stage.turn(weather):
        raise SkipTest(f"the stage cannot play {weather.name}")


def _attempt(stage: Stage, reply: OutgoingReply) -> DeliveryOutcome:
    """Deliver once, within the deadline, without a word of it in the outcome."""
    _check(stage.deadline_s <= DEADLINE_S, f"deadline_s: an attempt may take {DEADLINE_S} s")
    started = time.monotonic()
    # An attempt that outlives its lease would be made a second time by another worker.
    try:
        outcome = stage.channel.deliver(reply)
    except Exception as error:
        raise AssertionError("deliver raised; a fault of the network is an outcome") from error
    took_s = time.monotonic() - started
    _check(took_s <= stage.deadline_s + SLACK_S, f"the attempt took {took_s:.1f} s")
    reason = getattr(outcome, "reason", "")
    quoted = reply.text in reason or reply.to.address in reason
    _check(not quoted, "the reason is kept and logged: no texts and no addresses in it")
    return outcome


def _expect(kind: type[object] | UnionType, outcome: DeliveryOutcome, fact: str) -> None:
    wanted = getattr(kind, "__name__", str(kind))
    _check(isinstance(outcome, kind), f"{fact}: the outcome has to be {wanted}, not {outcome}")


def _expect_kept(stage: Stage, wanted: Sequence[str], fault: str) -> None:
    kept = list(stage.kept())
    _check(kept == list(wanted), f"{fault}: kept {kept!r:.200}, wanted {list(wanted)!r:.200}")


def _check(condition: bool, fault: str) -> None:  # noqa: FBT001 as assert, which -O takes out
    if not condition:
        raise AssertionError(fault)
