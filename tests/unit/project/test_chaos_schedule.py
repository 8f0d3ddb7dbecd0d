"""The plan of a chaos campaign is a function of its seed."""

from itertools import pairwise

import pytest

from tests.chaos.load import load
from tests.chaos.mix import CALL_TIMEOUT_S, TIMING, agents_file
from tests.chaos.schedule import FIRST_S, NATURES, Kind, Planned, schedule
from worker.domain.timing import Timing


def plan(seed: int = 1) -> tuple[Planned, ...]:
    return schedule(seed=seed, length_s=300.0, workers=3)


def test_the_same_seed_gives_the_same_schedule_and_another_seed_another() -> None:
    assert plan(1) == plan(1)
    assert plan(1) != plan(2)


@pytest.mark.parametrize("seed", range(10))
def test_in_five_minutes_every_kind_of_fault_comes_and_is_over_at_the_end(seed: int) -> None:
    planned = plan(seed)

    assert {one.kind for one in planned} == set(Kind)
    assert planned[0].at_s >= FIRST_S
    assert all(one.at_s <= later.at_s for one, later in pairwise(planned))
    assert all(one.at_s + one.lasts_s <= 300.0 for one in planned)


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_hit_again_before_it_has_healed(seed: int) -> None:
    healed_at: dict[str, float] = {}
    for one in plan(seed):
        for part in NATURES[one.kind].parts:
            name = f"worker {one.target}" if part == "worker" else part
            assert one.at_s >= healed_at.get(name, 0.0)
            healed_at[name] = one.at_s + one.lasts_s


def test_a_short_campaign_has_faults_too() -> None:
    assert schedule(seed=3, length_s=30.0, workers=1)


def test_the_same_seed_gives_the_same_load_and_another_seed_another() -> None:
    planned = load(seed=1, length_s=60.0, messages=500)

    assert planned == load(seed=1, length_s=60.0, messages=500)
    assert planned != load(seed=2, length_s=60.0, messages=500)


def test_each_text_and_each_id_is_unique_and_groups_follow_in_time() -> None:
    planned = load(seed=1, length_s=300.0, messages=2000)
    written = [m for groups in planned.values() for group in groups for m in group.messages]

    assert len(written) >= 2000
    assert len({m.text for m in written}) == len({m.message_id for m in written}) == len(written)
    assert any(m.copies > 1 for m in written)
    assert any(m.dated for m in written)
    assert any(len(group.messages) > 1 for groups in planned.values() for group in groups)
    for groups in planned.values():
        assert all(one.at_s <= later.at_s for one, later in pairwise(groups))
        assert groups[-1].at_s < 300.0


def test_all_waits_of_the_protocol_are_a_tenth_of_the_usual_ones() -> None:
    usual = Timing()
    undivided = {"max_unknown_calls", "look_first_s", "look_limit_s"}
    for name in Timing.__dataclass_fields__.keys() - undivided:
        assert getattr(TIMING, name) == pytest.approx(getattr(usual, name) / 10), name
    assert TIMING.quiet_s(CALL_TIMEOUT_S) == pytest.approx(usual.quiet_s(75.0) / 10)
    assert all(name in agents_file() for name in Timing.__dataclass_fields__.keys() - undivided)
