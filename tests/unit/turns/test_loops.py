"""What the loop breaker takes for a machine, and what it leaves alone."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from worker.domain.states import TurnKind
from worker.domain.turns.loops import RecentTurn, is_alike, is_similar, loop_rule

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
ME = "ticket-4711@crm.example"
AWAY = "Thank you for your message. I am out of the office until Monday, ticket {}."


def turns(
    number: int,
    *,
    every_s: float,
    addresses: Sequence[str] = (ME,),
    text: str = "{}",
    kind: TurnKind = TurnKind.MODEL,
    since_s: float = 0.0,
) -> list[RecentTurn]:
    """So many turns, the newest `every_s` ago; `{}` in a text is the turn's number."""
    return [
        RecentTurn(
            address=addresses[at % len(addresses)],
            kind=kind,
            opened_at=NOW - timedelta(seconds=since_s + every_s * (at + 1)),
            text=text.format(at),
        )
        for at in range(number)
    ]


def rule(recent: Sequence[RecentTurn], text: str = "hello?", address: str = ME) -> str | None:
    return loop_rule(address, text, recent, now=NOW)


@pytest.mark.parametrize(
    ("number", "every_s", "found"),
    [
        *((9, 1, None), (10, 1, "address"), (10, 59, "address"), (10, 61, None)),
        *((24, 140, None), (25, 140, "address"), (25, 145, None)),
    ],
)
def test_ten_turns_in_ten_minutes_or_25_in_an_hour(
    number: int, every_s: float, found: str | None
) -> None:
    assert rule(turns(number, every_s=every_s)) == found


def test_turns_before_a_person_stepped_in_do_not_count() -> None:
    before = turns(10, every_s=10, since_s=100)
    person = turns(1, every_s=1, since_s=90, kind=TurnKind.HUMAN)
    after = turns(9, every_s=10)
    assert rule([*after, *before]) == "address"
    assert rule([*after, *person, *before]) is None
    assert rule([*turns(10, every_s=9), *person, *before]) == "address"


def test_three_nearly_equal_texts_in_a_row() -> None:
    assert rule(turns(2, every_s=60, text=AWAY), AWAY.format(99)) == "address"
    assert rule(turns(1, every_s=60, text=AWAY), AWAY.format(99)) is None
    between = [
        *turns(1, every_s=1, text=AWAY),
        *turns(1, every_s=9),
        *turns(1, every_s=20, text=AWAY),
    ]
    assert rule(between, AWAY) is None
    for text, repeated in (("yes", None), ("I am away until Monday, sorry", "address")):
        assert rule(turns(2, every_s=60, text=text), text) == repeated


@pytest.mark.parametrize(
    ("one", "two", "similar"),
    [
        (AWAY.format(1), AWAY.format(20), True),
        (AWAY.format(1), AWAY.upper(), True),
        ("Where is order 1234567 please", "Where is order 1234568 please", False),
        (AWAY, "When do you open on Monday, and do you have the blue one in my size?", False),
        ("", "", False),
    ],
)
def test_texts_are_compared_without_their_numbers(one: str, two: str, similar: bool) -> None:
    assert is_similar(one, two) == similar


@pytest.mark.parametrize(
    ("one", "two", "alike"),
    [
        ("ticket-4711@crm.example", "ticket-4712@crm.example", True),
        ("help+a1@crm.example", "help+b2@crm.example", True),
        ("botaaa@crm.example", "botaab@crm.example", True),
        ("botaaa@crm.example", "botaa@crm.example", True),
        ("botaa@crm.example", "botaab@crm.example", True),
        ("ann@shop.example", "robert@shop.example", False),
        ("12345678@qq.com", "87654321@qq.com", False),
        ("+13125550001", "+13125550002", False),
    ],
)
def test_an_address_that_rotates(one: str, two: str, alike: bool) -> None:
    assert is_alike(one, two) == alike


def test_a_machine_that_changes_its_address_each_time() -> None:
    for domain in ("crm.example", "gmail.com"):
        rotating = [f"ticket-{number}@{domain}" for number in range(10)]
        away = {"addresses": rotating, "text": "Your ticket {} is open."}
        me, text = f"ticket-99@{domain}", "Your ticket 99 is open."
        assert rule(turns(10, every_s=30, **away), text, me) is None, "short, and not the very same"
        away["text"] = text
        assert rule(turns(10, every_s=30, **away), text, me) == "group"
        assert rule(turns(9, every_s=30, **away), text, me) is None
    random = [f"{name}@crm.example" for name in ("qwertz", "poiuyt", "asdfg", "lkjhg")]
    found = turns(10, every_s=30, addresses=random, text=AWAY)
    assert rule(found, AWAY) == "group"
    assert rule(found, "hello?") is None
    block = [f"+131255500{number}" for number in range(10, 20)]
    found = turns(10, every_s=30, addresses=block, text=AWAY)
    assert rule(found, AWAY, "+13125550099") == "group"


def test_ten_people_of_one_domain_are_no_machine() -> None:
    names = ["ann", "bob", "carla", "dimitri", "emre", "fatima", "george", "hana", "igor", "jun"]
    for domain in ("gmail.com", "shop.example", "school.example"):
        numbered = domain.startswith("school")
        people = [
            f"{'student' if numbered else name}{at}@{domain}" for at, name in enumerate(names)
        ]
        assert rule(turns(30, every_s=10, addresses=people), address=f"katrin@{domain}") is None
    # A link in an advertisement writes the same text for everybody.
    people = [f"{name}@gmail.com" for name in names]
    found = turns(30, every_s=10, addresses=people, text=AWAY)
    assert rule(found, AWAY, "katrin@gmail.com") is None
