"""One sender with many threads or many addresses does not hold up those who write once."""

from collections.abc import Iterator

import pytest

from tests.support.world import HandDrivenWorker, World
from worker.domain.fairness import Share
from worker.store.database import Database
from worker.store.turns.due_users import SweepStore

AGENTS = """
[fairness]
turns_per_address = 2
turns_per_group = 4
"""
FLOOD = "+1312555{:04}"
QUIET = "+13125660001"


@pytest.fixture
def sweeps(world: World) -> Iterator[SweepStore]:
    database = Database(world.settings().database_url)
    yield SweepStore(database, wake_ttl_s=10)
    database.close()


def wait(world: World, worker: HandDrivenWorker, *users: str, **fields: object) -> None:
    """Have these users wait, one second after the other."""
    for user in users:
        channel = "web" if "@" in user else "sms"
        worker.accept_only(world.envelope("hello", channel=channel, user=user, **fields))
        world.clock.advance(1)


def flood(world: World, worker: HandDrivenWorker, *, numbers: int) -> None:
    wait(world, worker, *(FLOOD.format(number) for number in range(numbers)))


def many_threads(world: World, worker: HandDrivenWorker, user: str, *, threads: int) -> None:
    for number in range(threads):
        wait(world, worker, user, thread=f"t{number}")


def picked(
    world: World, sweeps: SweepStore, *, limit: int = 30, most_surplus: int = 30, surplus: int = 0
) -> list[str]:
    """Pick; give who was picked, in order: the end of an address, with + for surplus."""
    held = {Share("default", surplus=True): surplus}
    swept = sweeps.pick(limit=limit, most=30, most_surplus=most_surplus, held=held)
    rows = world.database.rows("SELECT id, address FROM channel_users")
    names = {row["id"]: row["address"][-4:] for row in rows}
    return [names[one.user_id] + "+" * one.share.surplus for one in swept.due]


def surplus(world: World) -> int:
    return int(world.database.value("SELECT count(*) FROM channel_users WHERE surplus"))


def test_who_writes_once_goes_before_the_surplus_of_an_address(
    world: World, sweeps: SweepStore
) -> None:
    mike = world.worker(AGENTS)
    many_threads(world, mike, "eve@evil.example", threads=5)
    wait(world, mike, "bob@evil.example", "ann@shop.example")
    assert picked(world, sweeps) == ["mple"] * 4 + ["mple+"] * 3
    assert surplus(world) == 3


def test_who_writes_once_goes_before_the_surplus_of_a_block_of_numbers(
    world: World, sweeps: SweepStore
) -> None:
    mike = world.worker(AGENTS)
    flood(world, mike, numbers=6)
    wait(world, mike, QUIET)
    expected = ["0000", "0001", "0002", "0003", "0001", "0004+", "0005+"]
    assert picked(world, sweeps) == expected


def test_surplus_takes_one_slot_of_ten_while_others_wait_and_all_while_none_do(
    world: World, sweeps: SweepStore
) -> None:
    mike = world.worker(AGENTS)
    flood(world, mike, numbers=8)
    wait(world, mike, *(f"+4930{number}0001" for number in range(10, 22)))
    names = picked(world, sweeps, limit=17)
    assert [place for place, name in enumerate(names) if name.endswith("+")] == [9]
    assert picked(world, sweeps) == ["0005+", "0006+", "0007+"]


def test_surplus_turns_leave_slots_to_others(world: World, sweeps: SweepStore) -> None:
    mike = world.worker(AGENTS)
    flood(world, mike, numbers=6)
    assert picked(world, sweeps, most_surplus=9, surplus=8)[4:] == ["0004+"]
    assert picked(world, sweeps, most_surplus=9, surplus=9) == []
    wait(world, mike, QUIET)
    assert picked(world, sweeps, most_surplus=9, surplus=9) == ["0001"]


def test_a_flood_ends_answered_and_its_sender_is_as_others_again(world: World) -> None:
    mike = world.worker(AGENTS)
    many_threads(world, mike, FLOOD.format(1), threads=6)
    flood(world, mike, numbers=6)
    mike.answer()
    assert {row["outcome"] for row in world.messages()} == {"answered"}
    assert len(world.replies()) == 12
    wait(world, mike, FLOOD.format(1), thread="t5")
    assert surplus(world) == 12 - 4 - 1


def test_what_waits_for_an_operator_does_not_count(world: World) -> None:
    mike = world.worker(AGENTS)
    flood(world, mike, numbers=4)
    world.database.run("UPDATE channel_users SET diverged_at = service_now()")
    wait(world, mike, FLOOD.format(4))
    assert surplus(world) == 0


def test_turns_of_a_worker_that_died_count_until_another_has_answered_them(world: World) -> None:
    mike, anna = world.worker(AGENTS), world.worker(AGENTS)
    flood(world, mike, numbers=4)
    for row in world.database.rows("SELECT id FROM channel_users"):
        mike.service.answer.claims.claim(row["id"])
    wait(world, anna, FLOOD.format(4))
    assert surplus(world) == 1, "they are in progress, for all that anybody knows"
    world.clock.advance(200)
    anna.service.background.workers.beat()
    anna.answer()
    wait(world, anna, FLOOD.format(4))
    assert surplus(world) == 0


def test_a_message_is_surplus_at_once_while_its_group_has_enough_slots(world: World) -> None:
    mike = world.worker("")
    slots, message = mike.service.receive.slots, world.envelope("hello", user=FLOOD.format(0))
    group = mike.service.receive.routing().fairness.group_of("sms", FLOOD.format(9))
    while not slots.has_many_of(group):
        assert slots.take_at_once(Share("default"), group)
    for number in range(2):
        mike.receive({**message, "message_id": f"m{number}"})
        assert surplus(world) == 1, "on the general way, then in one statement"
    slots.release(Share("default"), group)
    mike.receive({**message, "message_id": "later"})
    assert surplus(world) == 0
    assert len(world.replies()) == 3


def test_surplus_turns_run_in_the_process_that_picked_them(world: World) -> None:
    mike, anna = world.worker(AGENTS), world.worker(AGENTS)
    flood(world, mike, numbers=6)
    anna.service.background.sweep()
    assert [one.share for one in anna.broker.woken] == [Share("default")] * 4
    assert len(anna.broker.submitted) == 2, "a wake does not say that a turn is surplus"
    for turn in anna.broker.submitted:
        turn()
    assert len(world.replies()) == 2


def test_messages_without_a_call_per_second_to_spare_are_counted_too(world: World) -> None:
    mike = world.worker(AGENTS + "[limits]\ncalls_per_second = 0.25\n")
    rates = mike.service.answer.rate_limiter.rates
    assert rates is not None
    assert rates.reserve(patience_s=5.0) is not None
    for number in range(6):
        mike.receive(world.envelope("hello", user=FLOOD.format(number)))
    assert world.replies() == []
    assert surplus(world) == 2
