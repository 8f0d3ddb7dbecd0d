"""How the turn slots of a process are shared: the cap, the line, promises."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from worker.handlers.turns.slots import PROMISE_S, TurnSlots


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def held(slots: TurnSlots, *agents: str) -> Iterator[None]:
    """Hold slots, as woken turns do."""
    with ExitStack() as stack:
        assert all(stack.enter_context(slots.woken(agent)) for agent in agents)
        yield


def test_no_agent_of_several_may_have_all_slots() -> None:
    slots = TurnSlots(20, agents=2)
    with held(slots, *["a"] * 18), slots.woken("a") as taken:
        assert not taken
        assert not slots.take_at_once("a")
        assert slots.take_at_once("b")
        assert slots.capacity().most == 18


def test_a_slot_is_left_over_wherever_there_are_two() -> None:
    assert [TurnSlots(count, agents=2).capacity().most for count in (1, 2, 9, 10)] == [1, 1, 8, 9]


def test_the_only_agent_may_have_all_slots() -> None:
    slots = TurnSlots(20, agents=1)
    with held(slots, *["a"] * 19):
        assert slots.take_at_once("a")
        assert slots.free == 0


def test_nobody_jumps_the_line_of_his_agent() -> None:
    slots = TurnSlots(4, agents=2)
    slots.capacity()
    slots.promise(["a"], crowded={"a"})
    assert not slots.take_at_once("a")
    assert slots.take_at_once("b"), "another agent has a line of its own"
    slots.capacity()
    slots.promise([], crowded=())
    assert slots.take_at_once("a")


def test_whoever_found_no_slot_is_before_those_who_come_after_him() -> None:
    slots = TurnSlots(4)
    slots.note_waiting("a")
    assert not slots.take_at_once("a")


def test_who_lines_up_while_a_pick_runs_is_not_forgotten_with_it() -> None:
    slots = TurnSlots(1)
    with held(slots, "a"):
        slots.roused.clear()
    assert slots.capacity().free == 1
    with held(slots, "a"):
        slots.note_waiting("a")
        slots.promise([], crowded=())
        assert not slots.roused.is_set()
    assert slots.roused.is_set()


def test_a_promised_slot_is_given_to_nobody_else_of_the_agent() -> None:
    slots = TurnSlots(3, agents=2)
    slots.promise(["a", "a"], crowded=())
    assert (slots.capacity().free, slots.capacity().held) == (1, {"a": 2})
    assert not slots.take_at_once("a"), "two are promised of the two that it may have"
    assert slots.take_at_once("b")
    assert slots.take_at_once("b"), "a quiet agent may have a promised one"


def test_a_promise_ends_when_a_wake_of_the_agent_arrives() -> None:
    slots = TurnSlots(3, agents=2)
    slots.promise(["a", "b"], crowded=())
    with held(slots, "a"):
        assert (slots.capacity().free, slots.capacity().held) == (1, {"a": 1, "b": 1})
    assert (slots.capacity().free, slots.capacity().held) == (2, {"b": 1})
    with held(slots, "a"):
        pass  # another process has published that one
    assert slots.capacity().free == 2, "never below none"


def test_a_promise_ends_after_a_while() -> None:
    clock = Clock()
    slots = TurnSlots(3, clock=clock)
    slots.promise(["a"], crowded=())
    clock.now_s = PROMISE_S / 2
    slots.promise(["a"], crowded=())
    assert slots.capacity().free == 1
    clock.now_s = PROMISE_S
    assert slots.capacity().free == 2
    clock.now_s = PROMISE_S * 1.5
    assert slots.capacity() == TurnSlots(3).capacity()


def test_a_slot_that_comes_free_rouses_the_sweeper_where_somebody_waits_for_it() -> None:
    slots = TurnSlots(20, agents=2)
    with held(slots, *["a"] * 17):
        with held(slots, "a"):
            slots.capacity()
            slots.promise([], crowded={"a"})
            with held(slots, "b"):
                pass
            assert not slots.roused.is_set(), "the crowd has all that it may have"
        assert slots.roused.is_set()
        slots.roused.clear()
        slots.capacity()
        slots.promise(["a"], crowded=())
    assert not slots.roused.is_set(), "nobody waits"


def test_a_slot_that_comes_free_rouses_a_sweeper_that_could_not_look() -> None:
    slots = TurnSlots(2)
    with held(slots, "a", "a"):
        assert slots.capacity().free == 0
    assert slots.roused.is_set()


def test_who_lines_up_just_after_a_slot_came_free_rouses_the_sweeper() -> None:
    slots = TurnSlots(1)
    with held(slots, "a"):
        slots.note_waiting("a")
        assert not slots.roused.is_set()
    slots.roused.clear()
    slots.note_waiting("a")
    assert slots.roused.is_set()


def test_nothing_rouses_a_sweeper_for_those_who_wait_for_their_moment() -> None:
    slots = TurnSlots(2)
    with held(slots, "a"):
        slots.capacity()
        slots.promise([], crowded={"a"})
        slots.rate_limited = True
        slots.note_waiting("a")
    assert not slots.roused.is_set()
    slots.rate_limited = False
    with held(slots, "a"):
        pass
    assert slots.roused.is_set()


def test_a_sweeper_is_told_whether_people_waited_for_slots() -> None:
    slots = TurnSlots(2)
    assert not slots.capacity().short, "nobody waited"
    slots.promise([], crowded={"a"})
    assert slots.capacity().short
    slots.promise([], crowded=())
    assert not slots.capacity().short
    slots.note_waiting("a")
    assert slots.capacity().short
    slots.promise([], crowded=())
    with held(slots, "a", "a"):
        slots.capacity()
    assert slots.capacity().short, "the last look could not tell"
    assert not slots.capacity().short


def test_a_closed_process_gives_no_slot_away() -> None:
    slots = TurnSlots(2)
    slots.close()
    assert (slots.free, slots.capacity().free, slots.take_at_once("a")) == (0, 0, False)
