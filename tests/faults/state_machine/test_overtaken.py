"""Interleavings that are forced, one by one: each protection of the turn protocol at its moment."""

from collections.abc import Iterator

import pytest

from tests.faults.state_machine.stage import Stage
from tests.faults.state_machine.taps import Trap
from worker.sandbox.simulator.record.log import user_texts

QUIET_S = 180.0


@pytest.fixture
def people(stage: Stage) -> Iterator[Stage]:
    """Two workers, mike and anna, and a person who has written and been answered."""
    stage.reset(hands=2)
    stage.receive(stage.hands[0], stage.envelope(0, "hello"))
    stage.advance(60)
    yield stage
    assert stage.violations() == []


def write(stage: Stage, trap: Trap, text: str = "again") -> None:
    """The person writes, and mike meets a trap on the way."""
    mike = stage.hands[0]
    mike.taps.traps[:] = [trap]
    stage.clock.advance(0.001)
    stage.receive(mike, stage.envelope(0, text))


def let_anna_work(stage: Stage, *, seconds: float, step_s: float = 5.0) -> None:
    """Time passes, and anna sweeps."""
    anna = stage.hands[1]
    for _ in range(int(seconds / step_s)):
        stage.advance(step_s)
        stage.sweep(anna)
        while stage.broker.woken:
            stage.follow(anna)


def inputs(stage: Stage) -> list[str]:
    conversation = stage.conversation(0)
    return list(user_texts(stage.telnyx.log(), str(conversation)))


def sources(stage: Stage) -> list[str]:
    return [row["source"] for row in stage.database.rows("SELECT source FROM replies ORDER BY id")]


def test_a_worker_frozen_before_its_post_wakes_up_too_late_to_send_or_to_write(
    people: Stage,
) -> None:
    write(people, Trap(kind="hold", point="telnyx.respond", side="before"))
    let_anna_work(people, seconds=QUIET_S + 30)
    assert sources(people) == ["call", "call"], "anna has answered"

    people.go(people.hands[0])

    assert inputs(people) == ["hello", "again"]
    assert people.counts["stale lease refused"] == 1
    assert people.database.value("SELECT count(*) FROM calls WHERE state = 'not_sent'") == 0


def test_nothing_leaves_after_the_send_deadline_even_where_nobody_took_over(people: Stage) -> None:
    write(people, Trap(kind="hold", point="starts.start", side="after", frozen=False))
    people.advance(2.5)
    people.go(people.hands[0])

    reasons = people.database.rows("SELECT state, reason FROM calls ORDER BY id")
    assert reasons[1] == {"state": "not_sent", "reason": "send deadline passed"}
    people.heal()
    assert inputs(people) == ["hello", "again"]


def test_a_pause_within_the_send_deadline_costs_nothing(people: Stage) -> None:
    write(people, Trap(kind="hold", point="starts.start", side="after", frozen=False))
    people.advance(1.5)
    people.go(people.hands[0])

    assert inputs(people) == ["hello", "again"]
    assert sources(people) == ["call", "call"]


def test_an_answer_that_comes_back_to_an_overtaken_worker_is_not_written_twice(
    people: Stage,
) -> None:
    write(people, Trap(kind="hold", point="turns.settle", side="before"))
    let_anna_work(people, seconds=30)
    assert sources(people) == ["call", "adopted"], "anna has found the answer in the thread"

    people.go(people.hands[0])

    assert people.counts["stale lease refused"] == 1
    assert sources(people) == ["call", "adopted"]
    assert inputs(people) == ["hello", "again"]


def test_a_settle_that_is_late_does_not_touch_the_next_turn(people: Stage) -> None:
    write(people, Trap(kind="hold", point="turns.settle", side="before"))
    let_anna_work(people, seconds=30)
    anna = people.hands[1]
    anna.taps.traps[:] = [Trap(kind="hold", point="telnyx.respond", side="after", frozen=False)]
    people.receive(anna, people.envelope(0, "the next"))

    people.go(people.hands[0])
    people.go(anna)

    assert sources(people) == ["call", "adopted", "call"]
    assert inputs(people) == ["hello", "again", "the next"]


@pytest.mark.parametrize("point", ["telnyx.respond", "turns.settle"])
def test_a_crash_after_the_post_leaves_a_doubtful_call_and_its_answer_is_adopted(
    people: Stage, point: str
) -> None:
    side = "after" if point == "telnyx.respond" else "before"
    write(people, Trap(kind="crash", point=point, side=side))
    assert inputs(people) == ["hello", "again"]

    people.heal()

    assert inputs(people) == ["hello", "again"]
    assert sources(people) == ["call", "adopted"]


def test_a_turn_that_was_stored_before_the_answer_got_lost_is_never_sent_again(
    people: Stage,
) -> None:
    people.telnyx.inject("stored_then_dropped")
    write(people, Trap(kind="crash", skip=999))
    people.heal()

    assert inputs(people) == ["hello", "again"]
    assert sources(people) == ["call", "adopted"]


def test_what_is_not_in_the_thread_may_still_come_until_t_quiet(people: Stage) -> None:
    people.telnyx.inject("stored_late", after_s=89.0)
    write(people, Trap(kind="crash", skip=999))
    let_anna_work(people, seconds=QUIET_S + 30)

    assert inputs(people) == ["hello", "again"]
    assert sources(people) == ["call", "adopted"]
    assert people.counts["look again"] >= 5


def test_what_is_not_in_the_thread_after_t_quiet_is_sent_again(people: Stage) -> None:
    people.telnyx.inject("dropped")
    write(people, Trap(kind="crash", skip=999))
    let_anna_work(people, seconds=QUIET_S - 5)
    assert inputs(people) == ["hello"]
    let_anna_work(people, seconds=15)

    assert inputs(people) == ["hello", "again"]
    assert sources(people) == ["call", "call"]


@pytest.mark.parametrize("fault", [None, "stored_then_dropped", "stored_late"])
def test_a_turn_whose_conversation_was_bound_by_a_worker_that_died_belongs_to_it(
    stage: Stage, fault: str | None
) -> None:
    stage.reset(hands=2)
    mike = stage.hands[0]
    mike.taps.traps[:] = [Trap(kind="crash", point="turns.record_intent", side="after")]
    if fault is not None:
        stage.telnyx.inject(fault)
    stage.receive(mike, stage.envelope(0, "hello"))
    stage.heal()
    stage.write_afterword()
    stage.heal()

    assert inputs(stage) == ["hello", "and one more thing"]
    assert stage.violations() == []


@pytest.mark.parametrize("fault", [None, "stored_then_dropped"])
@pytest.mark.parametrize("kind", ["crash", "away"])
def test_wherever_a_worker_dies_or_loses_postgres_there_is_one_reply(
    stage: Stage, kind: str, fault: str | None
) -> None:
    for skip in range(24):
        stage.reset(hands=1)
        if fault is not None:
            stage.telnyx.inject(fault)
        stage.hands[0].taps.traps[:] = [Trap(kind=kind, skip=skip)]  # type: ignore[arg-type]
        stage.receive(stage.hands[0], stage.envelope(1, "hello"))
        stage.heal()
        stage.write_afterword()
        stage.heal()

        assert stage.violations() == [], f"at the passing {skip}"
        assert len(sources(stage)) == 2, f"at the passing {skip}"


@pytest.mark.parametrize("fault", ["stored_then_400", "stored_then_429", "stored_then_503"])
def test_a_refusal_that_was_stored_is_adopted_although_the_log_lags_behind(
    people: Stage, fault: str
) -> None:
    people.telnyx.inject(fault)
    people.telnyx.inject("stale_reads", count=1)
    write(people, Trap(kind="crash", skip=999))
    people.heal()

    assert inputs(people) == ["hello", "again"]
    assert sources(people) == ["call", "adopted"]


def test_a_reply_that_waits_behind_another_is_not_looked_for_again_and_again(
    people: Stage,
) -> None:
    mike = people.hands[0]
    people.receive(mike, people.envelope(1, "one"))
    people.sink.outcomes[:] = ["refused"]
    people.deliver(mike)
    people.receive(mike, people.envelope(1, "two"))
    people.broker.deliveries.clear()

    people.advance(2)
    people.sweep(mike)
    assert people.broker.deliveries == []
    people.advance(5)
    people.sweep(mike)
    assert people.broker.deliveries == [people.user_id(1)]
    people.heal()
    assert len(people.sink.taken) == 2


def lose_three_calls(stage: Stage, *, late_s: float) -> None:
    """Three calls of one turn get lost, and Telnyx executes the last of them much later."""
    stage.telnyx.inject("dropped", count=2)
    stage.telnyx.inject("stored_late", after_s=late_s)
    write(stage, Trap(kind="crash", skip=999))
    let_anna_work(stage, seconds=2 * QUIET_S + 40)
    assert stage.database.value("SELECT count(*) FROM calls WHERE state = 'unknown'") == 3


def test_a_turn_is_not_given_up_while_its_last_call_may_still_be_executed(people: Stage) -> None:
    lose_three_calls(people, late_s=89.0)
    people.receive(people.hands[1], people.envelope(0, "the next"))
    people.heal()

    assert inputs(people) == ["hello", "again", "the next"]
    assert sources(people) == ["call", "adopted", "call"]


def test_a_turn_is_given_up_after_three_lost_calls_once_nothing_can_come_any_more(
    people: Stage,
) -> None:
    people.telnyx.inject("dropped", count=3)
    write(people, Trap(kind="crash", skip=999))
    let_anna_work(people, seconds=3 * QUIET_S + 30)
    people.receive(people.hands[1], people.envelope(0, "the next"))

    assert inputs(people) == ["hello", "the next"]
    assert sources(people) == ["call", "fallback", "call"]


def test_what_telnyx_executes_after_t_quiet_is_explained_and_stops_nobody(stage: Stage) -> None:
    stage.reset(hands=2)
    lose_three_calls(stage, late_s=QUIET_S + 60)
    let_anna_work(stage, seconds=QUIET_S + 60)
    assert inputs(stage) == ["again"]
    assert sources(stage) == ["fallback"]

    stage.write_afterword()
    stage.heal()

    assert inputs(stage) == ["again", "and one more thing"]
    assert sources(stage) == ["fallback", "adopted"]
    assert stage.counts["late arrival explained"] == 1
    assert stage.violations() == []
