"""A user who waits for one agent does not wait for those of another."""

from collections.abc import Iterator

import pytest

from tests.support.slots import taken
from tests.support.world import USER, HandDrivenWorker, World
from worker.domain.fairness import Share
from worker.domain.messages import MAX_TURN_MESSAGES
from worker.handlers.turns.answer import MAX_TURNS
from worker.store.database import Database
from worker.store.turns.due_users import SweepStore

AGENTS = """
default_agent = "a"
[agents.a]
[agents.b]
[agents.c]
"""


@pytest.fixture
def sweeps(world: World) -> Iterator[SweepStore]:
    database = Database(world.settings().database_url)
    yield SweepStore(database, wake_ttl_s=10)
    database.close()


def wait_for(world: World, worker: HandDrivenWorker, agent: str, *, people: int) -> None:
    """Have so many people write to an agent, one second after the other."""
    for number in range(people):
        worker.accept_only(world.envelope("hello", user=f"{agent}{number}", agent=agent))
        world.clock.advance(1)


def picked(
    world: World,
    sweeps: SweepStore,
    *,
    limit: int,
    most: int = 9,
    most_surplus: int = 8,
    surplus: int = 0,
    **held: int,
) -> str:
    """Pick; give who was picked, in order, and of which shares more are due.

    `surplus`: slots that surplus turns of agent a hold.
    """
    shares = {Share(agent): slots for agent, slots in held.items()}
    swept = sweeps.pick(
        limit=limit,
        most=most,
        most_surplus=most_surplus,
        held=shares | {Share("a", surplus=True): surplus},
    )
    rows = world.database.rows("SELECT id, agent, address FROM channel_users")
    names = {row["id"]: (row["agent"], row["address"]) for row in rows}
    assert [one.share.agent for one in swept.due] == [names[one.user_id][0] for one in swept.due]
    people = [names[one.user_id][1] for one in swept.due]
    crowded = [share.agent + "+" * share.surplus for share in sorted(swept.crowded)]
    return f"{' '.join(people)} | {' '.join(crowded)}"


def answered(world: World) -> list[str]:
    """Give who was answered, in order."""
    query = (
        "SELECT address FROM replies r JOIN turns t ON t.id = r.turn_id"
        " JOIN channel_users u ON u.id = t.channel_user_id ORDER BY r.id"
    )
    return [row["address"] for row in world.database.rows(query)]


def test_free_slots_are_shared_among_the_agents_that_somebody_waits_for(
    world: World, sweeps: SweepStore
) -> None:
    mike = world.worker(AGENTS)
    wait_for(world, mike, "a", people=9)
    wait_for(world, mike, "b", people=3)
    wait_for(world, mike, "c", people=1)
    assert picked(world, sweeps, limit=5) == "a0 b0 c0 a1 b1 | a b"
    assert picked(world, sweeps, limit=5) == "a2 b2 a3 a4 a5 | a", "none stays empty"
    assert picked(world, sweeps, limit=0) == " | "
    assert picked(world, sweeps, limit=3) == "a6 a7 a8 | "


def test_the_agent_with_the_fewest_slots_goes_first_and_none_may_have_more_than_the_cap(
    world: World, sweeps: SweepStore
) -> None:
    mike = world.worker(AGENTS)
    wait_for(world, mike, "a", people=4)
    wait_for(world, mike, "b", people=3)
    assert picked(world, sweeps, limit=1, a=3, b=1) == "b0 | a b"
    assert picked(world, sweeps, limit=3, a=3, b=1, most=4) == "b1 b2 a0 | a"
    assert picked(world, sweeps, limit=3, a=4, most=4) == " | a"
    assert picked(world, sweeps, limit=3, most=2) == "a1 a2 | a"


def test_who_comes_while_others_wait_for_the_agent_waits_behind_them(world: World) -> None:
    mike = world.worker(AGENTS)
    slots = mike.service.answer.slots
    wait_for(world, mike, "a", people=2)
    with taken(slots, leaving=1):
        mike.service.background.sweep()
    mike.receive(world.envelope("hello", user="late", agent="a"))
    assert world.replies() == [], "one of those before them was not picked yet"
    mike.receive(world.envelope("hello", user="b0", agent="b"))
    assert len(world.replies()) == 1, "nobody waits for the other agent"
    mike.answer()
    assert answered(world) == ["b0", "a0", "a1", "late"]
    mike.receive(world.envelope("hello", user="later", agent="a"))
    assert len(world.replies()) == 5, "nobody waits any more"


def test_a_wake_that_finds_no_slot_is_picked_again_for_the_next_that_comes_free(
    world: World,
) -> None:
    mike, anna = world.worker(AGENTS), world.worker(AGENTS)
    slots = mike.service.answer.slots
    with taken(slots):
        mike.receive(world.envelope("hello", agent="a"))
        assert not slots.roused.is_set()
    assert slots.roused.is_set(), "a message that found no slot waits for the next, too"
    anna.service.background.sweep()
    (due,) = anna.broker.woken
    with taken(slots):
        assert mike.service.answer(*due) == []
        slots.roused.clear()
    assert slots.roused.is_set()
    mike.answer()
    assert len(world.replies()) == 1


def test_who_waited_for_a_slot_of_a_process_is_answered_by_it_without_a_wake(world: World) -> None:
    mike, anna = world.worker(AGENTS), world.worker(AGENTS)
    mike.accept_only(world.envelope("hello"))
    mike.service.background.sweep()
    (turn,) = mike.broker.submitted
    turn()
    assert len(world.replies()) == 1
    anna.accept_only(world.envelope("hello", user="another"))
    mike.service.background.sweep()
    assert [len(mike.broker.submitted), len(mike.broker.woken)] == [1, 1], "he waited for anna's"


def test_a_person_counts_to_the_agent_that_he_wrote_to_last(
    world: World, sweeps: SweepStore
) -> None:
    mike = world.worker(AGENTS)
    for agent in ("a", "b"):
        mike.accept_only(world.envelope("hello", agent=agent))
    assert picked(world, sweeps, limit=1) == f"{USER} | "


def test_a_turn_counts_as_its_agents_as_long_as_it_is_worked(world: World) -> None:
    mike = world.worker(AGENTS)
    slots, settle = mike.service.answer.slots, mike.service.answer.settle.turns.settle
    held: list[object] = []

    def meanwhile(*args: object) -> object:
        held.append(slots.capacity().held)
        return settle(*args)  # type: ignore[arg-type]

    object.__setattr__(mike.service.answer.settle.turns, "settle", meanwhile)
    mike.receive(world.envelope("hello", agent="b"))
    mike.accept_only(world.envelope("hello", user="c0", agent="c"))
    mike.answer()
    assert held == [{Share("b"): 1}, {Share("c"): 1}]
    assert slots.capacity().held == {}


def test_a_person_with_very_many_messages_goes_behind_the_others_after_a_few_turns(
    world: World,
) -> None:
    mike = world.worker(AGENTS)
    wait_for(world, mike, "a", people=1)
    world.database.run(
        "INSERT INTO messages (channel_user_id, message_id, seq, order_at, agent, envelope)"
        " SELECT channel_user_id, 'm' || n, n, order_at, agent, envelope"
        " FROM messages, generate_series(2, %s) AS n",
        MAX_TURN_MESSAGES * (MAX_TURNS + 1),
    )
    world.database.run("UPDATE channel_users SET next_seq = 1000")
    for name in ("a1", "a2", "a3"):
        mike.accept_only(world.envelope("hello", user=name))
        world.clock.advance(1)
    with taken(mike.service.answer.slots, leaving=1):
        while mike.sweep():
            pass
    assert answered(world) == ["a0"] * MAX_TURNS + ["a1", "a2", "a3", "a0"]
