"""The checker of chaos campaigns finds what is planted."""

import base64
import json

import pytest
from redis import Redis

from tests.chaos.arrivals import check_arrivals
from tests.chaos.load import Group, Written
from tests.chaos.mix import QUIET_S
from tests.chaos.pair import Jump, true_time
from tests.chaos.sink import Sink
from tests.chaos.verdict import (
    GivenUp,
    Place,
    check_acceptance,
    check_given_up,
    check_letters,
    check_numbers,
    check_replies,
    explanation,
    places,
)
from tests.chaos.waits import Span, Wait, check_waits, unexplained_s
from tests.support.oracle import Delivered
from tests.support.receiver import Posted


def written(user: str, number: int) -> Written:
    return Written(user=user, channel="web", number=number, copies=1, dated=False)


PLACES = places(
    {
        "u1": (
            Group(at_s=0.0, messages=(written("u1", 1),)),
            Group(at_s=1.0, messages=(written("u1", 2), written("u1", 3))),
            Group(at_s=2.0, messages=(written("u1", 4),)),
        ),
        "u2": (Group(at_s=0.0, messages=(written("u2", 1),)),),
    }
)
ONE = ["u1 #1", "u1 #2", "u1 #3", "u1 #4"]


def found(lines: dict[str, list[str]], excused: frozenset[str] = frozenset()) -> list[str]:
    answered = set(PLACES) - excused
    return [
        one.invariant for one in check_numbers(lines, PLACES, answered=answered, excused=excused)
    ]


def test_a_text_knows_its_group() -> None:
    assert PLACES["u1 #3"] == Place(user="u1", group=1)


def test_what_was_said_once_and_in_order_is_right() -> None:
    assert found({"a": ONE, "b": ["u2 #1"]}) == []


def test_within_a_burst_any_order_is_right() -> None:
    assert found({"a": ["u1 #1", "u1 #3", "u1 #2", "u1 #4"], "b": ["u2 #1"]}) == []


@pytest.mark.parametrize(
    ("lines", "invariant"),
    [
        ({"a": ["u1 #2", "u1 #1", "u1 #3", "u1 #4"], "b": ["u2 #1"]}, "order"),
        ({"a": [*ONE, "u1 #4"], "b": ["u2 #1"]}, "doubled"),
        ({"a": ONE, "b": ["u2 #1"], "c": ["u2 #1"]}, "doubled"),
        ({"a": ONE[:3], "b": ["u2 #1"]}, "lost"),
        ({"a": [*ONE, "u2 #1"]}, "numbers"),
        ({"a": [*ONE, "hello"], "b": ["u2 #1"]}, "numbers"),
    ],
)
def test_a_planted_violation_is_found(lines: dict[str, list[str]], invariant: str) -> None:
    assert invariant in found(lines)


def test_a_message_whose_turn_was_given_up_may_be_missing_or_late_but_not_doubled() -> None:
    excused = frozenset({"u1 #1"})

    assert found({"a": ONE[1:], "b": ["u2 #1"]}, excused) == []
    assert found({"a": [*ONE[1:], "u1 #1"], "b": ["u2 #1"]}, excused) == []
    assert found({"a": [*ONE, "u1 #1"], "b": ["u2 #1"]}, excused) == ["doubled"]


def test_acceptance_has_the_order_in_which_people_wrote() -> None:
    assert list(check_acceptance({1: ["u1 #1", "u1 #3", "u1 #2", "u1 #4"]}, PLACES)) == []
    (found,) = check_acceptance({1: ["u1 #1", "u1 #4", "u1 #2"], 2: ["u2 #1"]}, PLACES)
    assert found.what == "user 1: u1 #2 sorts after a later one"


def test_replies_have_the_order_in_which_people_wrote() -> None:
    one, two = (Delivered(user_id=1, delivery_id=n, key=str(n), text="yes") for n in (1, 2))
    answers = {1: ["u1 #1", "u1 #2"], 2: ["u1 #4"]}

    def orders(excused: frozenset[str], *arrived: Delivered) -> list[str]:
        found = check_replies(arrived, answers, PLACES, excused=excused)
        return [violation.invariant for violation in found]

    assert orders(frozenset(), one, two) == []
    assert orders(frozenset(), two, one) == ["order"]
    assert orders(frozenset({"u1 #1", "u1 #2"}), two, one) == []


def given_up(**changes: object) -> GivenUp:
    usual: dict[str, object] = {
        "turn_id": 7,
        "failure": "gave_up",
        "unknown_calls": 1,
        "doubtful_s": 20.0,
        "since_newest_s": QUIET_S + 1,
        "item_stands_alone": False,
    }
    return GivenUp(**{**usual, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        *({"unknown_calls": 3}, {"doubtful_s": 95.0}, {"item_stands_alone": True}),
        {"failure": "refused", "refusals_withdrawn": 2},
    ],
)
def test_a_turn_that_a_fault_explains_may_be_given_up(changes: dict[str, object]) -> None:
    assert explanation(given_up(**changes)) is not None
    assert list(check_given_up([given_up(**changes)])) == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"failure": "refused", "unknown_calls": 3, "refusals_withdrawn": 1},
        {"item_stands_alone": True, "since_newest_s": 2.0},
    ],
)
def test_a_turn_that_no_fault_explains_is_a_violation(changes: dict[str, object]) -> None:
    assert [one.invariant for one in check_given_up([given_up(**changes)])] == ["given up"]


def test_dead_letters_that_only_a_defect_makes_are_violations() -> None:
    assert list(check_letters({"envelope_invalid": 3, "not_json": 1, "gave_up": 2})) == []
    assert len(list(check_letters({"task_failed": 1, "refused": 1}))) == 2
    assert len(list(check_letters({"task_failed": 1, "refused": 1}, refused=1))) == 1


@pytest.mark.parametrize(
    ("excused", "left_s"),
    [
        ([], 30.0),
        ([Span(90, 100), Span(130, 140)], 30.0),
        ([Span(100, 130)], 0.0),
        ([Span(120, 125), Span(105, 115), Span(110, 112)], 15.0),
        ([Span(90, 101), Span(129, 140)], 28.0),
        ([Span(101, 102), Span(101, 103), Span(90, 110)], 20.0),
    ],
)
def test_of_a_wait_counts_what_no_outage_explains(excused: list[Span], left_s: float) -> None:
    assert unexplained_s(Span(100, 130), excused) == left_s


def test_a_wait_is_measured_in_true_time_whatever_postgres_clock_did() -> None:
    jumps = [Jump(at=100.0, ahead_s=40.0), Jump(at=150.0, ahead_s=80.0)]
    shown = [99.0, 100.0, 130.0, 140.0, 189.0, 190.0, 229.0, 231.0]
    assert [true_time(jumps, at) for at in shown] == [99, 100, 100, 100, 149, 150, 150, 151]


def test_who_waits_for_nothing_is_a_violation() -> None:
    waits = [Wait("m-1", Span(100, 105)), Wait("m-2", Span(100, 193)), Wait("m-3", Span(53, 193))]
    found = list(check_waits(waits, [Span(55, 189)]))
    assert found == []
    found = list(check_waits(waits, [Span(60, 100)]))
    assert [one.what for one in found] == [
        "m-2 waited 93 s for nothing",
        "m-3 waited 100 s for nothing",
    ]


def test_a_reply_arrives_once_with_its_person_and_is_the_services() -> None:
    one, two, nobodys = (
        (Delivered(user_id=3, delivery_id=number, key="k", text="yes"), "") for number in (1, 2, 0)
    )
    assert list(check_arrivals([one, two])) == []
    found = list(check_arrivals([one, two, one, nobodys, (two[0], "eve@x.example")]))
    assert [violation.what for violation in found] == [
        "delivery 1 arrived 2 times",
        "delivery 2 arrived 2 times",
        "1 replies arrived that no delivery explains",
        "delivery 2 arrived at eve@x.example",
    ]


def entry(key: str, text: str) -> bytes:
    reply = {"idempotency_key": key, "text": text}
    body = base64.b64encode(json.dumps([[], {"reply": reply}, {}]).encode()).decode()
    return json.dumps({"body": body}).encode()


def test_the_sink_keeps_the_first_of_each_key_and_names_it_by_its_delivery() -> None:
    sink = Sink(Redis(port=1))
    sink.take([entry("k1", "one"), entry("k2", "two"), entry("k1", "one")])
    rows = [{"id": 5, "channel_user_id": 3, "idempotency_key": "k1"}]

    assert sink.repetitions == 1
    assert [(one.delivery_id, one.user_id, one.text) for one in sink.delivered(rows)] == [
        (5, 3, "one"),
        (0, 0, "two"),
    ]


def test_what_the_sink_has_from_rabbitmq_is_never_out_of_order() -> None:
    sink = Sink(Redis(port=1))
    sink.take([entry("k1", "one"), entry("k3", "three")])
    sink.unordered = [{"idempotency_key": "k2", "text": "two"}]
    rows = [{"id": n, "channel_user_id": 3, "idempotency_key": f"k{n}"} for n in (1, 2, 3)]
    assert [one.delivery_id for one in sink.delivered(rows)] == [1, 2, 3]


def test_a_webhook_that_was_told_500_has_not_arrived() -> None:
    sink = Sink(Redis(port=1))
    posted = [
        Posted("/replies", {}, json.dumps({"idempotency_key": key, "text": "yes"}).encode())
        for key in ("k1", "k2", "k1", "k1")
    ]
    sink.take_posted(posted, were_told=[500, 200, 200, 200])
    assert [reply["idempotency_key"] for reply in sink.taken] == ["k2", "k1"]
    assert sink.repetitions == 1
