"""How the turn slots of a process are shared: the cap, the line, promises."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from worker.domain.fairness import Share
from worker.handlers.turns.slots import PROMISE_S, TurnSlots

A, B = Share("a"), Share("b")
SURPLUS = Share("a", surplus=True)


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def at_once(slots: TurnSlots, share: Share, group: int = 0) -> bool:
    return slots.take_at_once(share, group)


@contextmanager
def held(slots: TurnSlots, *shares: Share) -> Iterator[None]:
    """Hold slots, as woken turns do."""
    with ExitStack() as stack:
        assert all(stack.enter_context(slots.woken(share)) for share in shares)
        yield


def test_no_agent_of_several_may_have_all_slots() -> None:
    slots = TurnSlots(20, agents=2)
    with held(slots, *[A] * 18), slots.woken(A) as taken:
        assert not taken
        assert not at_once(slots, A)
        assert at_once(slots, B)
        assert slots.capacity().most == 18


def test_a_slot_is_left_over_wherever_there_are_two() -> None:
    assert [TurnSlots(count, agents=2).capacity().most for count in (1, 2, 9, 10)] == [1, 1, 8, 9]


def test_the_only_agent_may_have_all_slots() -> None:
    slots = TurnSlots(20, agents=1)
    with held(slots, *[A] * 19):
        assert at_once(slots, A)
        assert slots.free == 0


def test_nobody_jumps_the_line_of_their_agent() -> None:
    slots = TurnSlots(4, agents=2)
    slots.capacity()
    slots.promise([A], crowded={A})
    assert not at_once(slots, A)
    assert at_once(slots, B), "another agent has a line of its own"
    slots.capacity()
    slots.promise([], crowded=())
    assert at_once(slots, A)


def test_whoever_found_no_slot_is_before_those_who_come_after_him() -> None:
    slots = TurnSlots(4)
    slots.note_waiting(A)
    assert not at_once(slots, A)


def test_who_lines_up_while_a_pick_runs_is_not_forgotten_with_it() -> None:
    slots = TurnSlots(1)
    with held(slots, A):
        slots.roused.clear()
    assert slots.capacity().free == 1
    with held(slots, A):
        slots.note_waiting(A)
        slots.promise([], crowded=())
        assert not slots.roused.is_set()
    assert slots.roused.is_set()


def test_a_promised_slot_is_given_to_nobody_else_of_the_agent() -> None:
    slots = TurnSlots(3, agents=2)
    slots.promise([A, A], crowded=())
    assert (slots.capacity().free, slots.capacity().held) == (1, {A: 2})
    assert not at_once(slots, A), "two are promised of the two that it may have"
    assert at_once(slots, B)
    assert at_once(slots, B), "a quiet agent may have a promised one"


def test_a_promise_ends_when_a_wake_of_the_agent_arrives() -> None:
    slots = TurnSlots(3, agents=2)
    slots.promise([A, B], crowded=())
    with held(slots, A):
        assert (slots.capacity().free, slots.capacity().held) == (1, {A: 1, B: 1})
    assert (slots.capacity().free, slots.capacity().held) == (2, {B: 1})
    with held(slots, A):
        pass  # another process has published that one
    assert slots.capacity().free == 2, "never below none"


def test_a_promise_ends_after_a_while() -> None:
    clock = Clock()
    slots = TurnSlots(3, clock=clock)
    slots.promise([A], crowded=())
    clock.now_s = PROMISE_S / 2
    slots.promise([A], crowded=())
    assert slots.capacity().free == 1
    clock.now_s = PROMISE_S
    assert slots.capacity().free == 2
    clock.now_s = PROMISE_S * 1.5
    assert slots.capacity() == TurnSlots(3).capacity()


def test_a_slot_that_comes_free_rouses_the_sweeper_where_somebody_waits_for_it() -> None:
    slots = TurnSlots(20, agents=2)
    with held(slots, *[A] * 17):
        with held(slots, A):
            slots.capacity()
            slots.promise([], crowded={A})
            with held(slots, B):
                pass
            assert not slots.roused.is_set(), "the crowd has all that it may have"
        assert slots.roused.is_set()
        slots.roused.clear()
        slots.capacity()
        slots.promise([A], crowded=())
    assert not slots.roused.is_set(), "nobody waits"


def test_a_slot_that_comes_free_rouses_a_sweeper_that_could_not_look() -> None:
    slots = TurnSlots(2)
    with held(slots, A, A):
        assert slots.capacity().free == 0
    assert slots.roused.is_set()


def test_who_lines_up_just_after_a_slot_came_free_rouses_the_sweeper() -> None:
    slots = TurnSlots(1)
    with held(slots, A):
        slots.note_waiting(A)
        assert not slots.roused.is_set()
    slots.roused.clear()
    slots.note_waiting(A)
    assert slots.roused.is_set()


def test_nothing_rouses_a_sweeper_for_those_who_wait_for_their_moment() -> None:
    slots = TurnSlots(2)
    with held(slots, A):
        slots.capacity()
        slots.promise([], crowded={A})
        slots.rate_limited = True
        slots.note_waiting(A)
    assert not slots.roused.is_set()
    slots.rate_limited = False
    with held(slots, A):
        pass
    assert slots.roused.is_set()


def test_a_sweeper_is_told_whether_people_waited_for_slots() -> None:
    slots = TurnSlots(2)
    assert not slots.capacity().short, "nobody waited"
    slots.promise([], crowded={A})
    assert slots.capacity().short
    slots.promise([], crowded=())
    assert not slots.capacity().short
    slots.note_waiting(A)
    assert slots.capacity().short
    slots.promise([], crowded=())
    with held(slots, A, A):
        slots.capacity()
    assert slots.capacity().short, "the last look could not tell"
    assert not slots.capacity().short


def test_a_closed_process_gives_no_slot_away() -> None:
    slots = TurnSlots(2)
    slots.close()
    assert (slots.free, slots.capacity().free, at_once(slots, A)) == (0, 0, False)


def test_surplus_turns_of_any_number_of_senders_leave_slots_to_others() -> None:
    slots = TurnSlots(20)
    with held(slots, *[SURPLUS] * 18), slots.woken(SURPLUS) as taken:
        assert not taken
        assert not at_once(slots, SURPLUS)
        assert slots.capacity().most_surplus == 18
        assert at_once(slots, A)


def test_surplus_turns_count_as_their_agents() -> None:
    slots = TurnSlots(20, agents=2)
    with held(slots, *[SURPLUS] * 8, *[A] * 10):
        assert not at_once(slots, A)
        assert at_once(slots, B)
    assert [TurnSlots(n, agents=2).capacity().most_surplus for n in (1, 2, 20)] == [1, 1, 16]


def test_a_message_goes_before_the_surplus_that_waits_and_surplus_behind_all() -> None:
    slots = TurnSlots(4)
    slots.note_waiting(SURPLUS)
    assert not at_once(slots, SURPLUS)
    assert at_once(slots, A)
    slots = TurnSlots(4)
    slots.note_waiting(A)
    assert not at_once(slots, SURPLUS)


def test_a_group_that_writes_at_once_is_surplus_before_it_has_all_slots() -> None:
    slots = TurnSlots(20)
    taken = 0
    while at_once(slots, Share("a", slots.has_many_of(7)), group=7):
        taken += 1
    assert taken == 19
    assert not slots.has_many_of(8)
    assert at_once(slots, A, group=8)


def test_a_group_is_forgotten_with_its_last_slot() -> None:
    slots = TurnSlots(20)
    assert at_once(slots, A, group=7)
    assert slots.has_many_of(7)
    slots.release(A, 7)
    assert not slots.has_many_of(7)
    assert (slots.free, slots.capacity().held) == (20, {})


def test_a_slot_that_surplus_may_not_have_rouses_nobody_for_it() -> None:
    slots = TurnSlots(20)
    with held(slots, *[SURPLUS] * 18):
        with held(slots, A):
            slots.capacity()
            slots.promise([], crowded={SURPLUS})
        assert not slots.roused.is_set()
    assert slots.roused.is_set()


def test_a_wake_ends_the_rest_of_the_sweeper_once() -> None:
    slots = TurnSlots(4)
    slots.rests = True
    for was_resting in (True, False):
        with slots.woken(Share("default")):
            assert slots.roused.is_set() is was_resting
        slots.roused.clear()
