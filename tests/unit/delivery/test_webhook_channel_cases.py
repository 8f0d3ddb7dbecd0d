"""The kit for third parties' channels finds what it says it finds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from unittest import SkipTest

import pytest

from worker.domain.deliveries import (
    DeliveryOutcome,
    NotDelivered,
    OutgoingReply,
    Rejected,
    Sent,
    Unclear,
)
from worker.testing.channel_cases import SLACK_S, ChannelCases, Stage, Weather

DEADLINE_S = 0.05


@dataclass
class Letterbox:
    """Channel, other side and stage in one; right unless a test changes it."""

    takes_key: bool = True
    deadline_s: float = DEADLINE_S
    weather: Weather = Weather.FINE
    plays: tuple[Weather, ...] = tuple(Weather)
    letters: dict[str, str] = field(default_factory=dict)
    write: Callable[[str], str] = str
    """What becomes of a text."""
    key: Callable[[OutgoingReply], str] = lambda reply: str(reply.idempotency_key)
    says: dict[Weather, DeliveryOutcome | Exception] = field(default_factory=dict)
    silent_s: float = DEADLINE_S

    @property
    def channel(self) -> "Letterbox":
        return self

    def deliver(self, reply: OutgoingReply) -> DeliveryOutcome:
        if self.weather in {Weather.FINE, Weather.ANSWER_LOST}:
            self.letters.setdefault(self.key(reply), self.write(reply.text))
        if self.weather is Weather.SILENT:
            time.sleep(self.silent_s)
        right = {Weather.FINE: Sent(), Weather.AWAY: NotDelivered(reason="nobody")}
        outcome = self.says.get(self.weather, right.get(self.weather, Unclear(reason="lost")))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def turn(self, weather: Weather) -> bool:
        self.weather = weather
        return weather in self.plays

    def kept(self) -> list[str]:
        return list(self.letters.values())


def cases_of(box: Callable[[], Letterbox]) -> ChannelCases:
    class Cases(ChannelCases):
        @contextmanager
        def stage(self) -> Iterator[Stage]:
            yield box()

    return Cases()


NAMES = [name for name in dir(ChannelCases) if name.startswith("test_")]


@pytest.mark.parametrize("name", NAMES)
def test_a_right_channel_passes(name: str) -> None:
    getattr(cases_of(Letterbox), name)()


_numbers = count()


def fresh_key(_: OutgoingReply) -> str:
    return str(next(_numbers))


@pytest.mark.parametrize("name", NAMES)
def test_one_that_knows_no_keys_and_says_so_passes(name: str) -> None:
    getattr(cases_of(lambda: Letterbox(takes_key=False, key=fresh_key)), name)()


@pytest.mark.parametrize(
    ("wrong", "case", "said"),
    [
        ({"write": str.strip}, "as_they_are", "not what was sent"),
        ({"says": {Weather.FINE: Unclear(reason="")}}, "as_they_are", "has to be Sent"),
        ({"key": lambda reply: reply.text}, "same_words", "is missing"),
        ({"key": fresh_key}, "truth_about_keys", "takes_key is not true"),
        ({"key": fresh_key}, "lost_answer", "arrived twice"),
        ({"says": {Weather.AWAY: OSError()}}, "away", "deliver raised"),
        ({"says": {Weather.AWAY: Sent()}}, "away", "not Sent"),
        ({"says": {Weather.AWAY: Rejected(reason="")}}, "away", "not Rejected"),
        ({"says": {Weather.AWAY: NotDelivered(reason="are you there?")}}, "away", "no texts"),
        ({"says": {Weather.AWAY: NotDelivered(reason="no user-1")}}, "away", "no addresses"),
        ({"says": {Weather.SILENT: NotDelivered(reason="")}}, "silence", "has to be Unclear"),
        ({"silent_s": DEADLINE_S + SLACK_S + 0.1}, "silence", "the attempt took 2"),
        ({"says": {Weather.ANSWER_LOST: NotDelivered(reason="")}}, "lost", "not NotDelivered"),
        ({"key": lambda _: "one for all"}, "threads", "8 were sent at once, 1 kept"),
        ({"deadline_s": 60.0}, "as_they_are", "may take 15"),
    ],
)
def test_a_wrong_one_is_found_and_told_what_is_wrong(
    wrong: dict[str, object], case: str, said: str
) -> None:
    (name,) = (one for one in NAMES if case in one)
    with pytest.raises(AssertionError, match=said):
        getattr(cases_of(lambda: Letterbox(**wrong)), name)()  # type: ignore[arg-type]


def test_weather_that_a_stage_cannot_play_is_skipped() -> None:
    cases = cases_of(lambda: Letterbox(plays=(Weather.FINE,)))
    with pytest.raises(SkipTest, match="AWAY"):
        cases.test_who_is_away_has_not_got_it()
