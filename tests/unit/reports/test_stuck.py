"""What is stuck, from one look: causes before those who suffer from them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from worker.domain.ids import ChannelUserId, MessageRowId
from worker.domain.reports.message_history import ClosedGate
from worker.domain.reports.stuck import StuckKind, StuckSnapshot, StuckUser, Waiting, stuck
from worker.domain.routing import Agent, Routing

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OLD = NOW - timedelta(seconds=90)
ROUTING = Routing(agents={"default": Agent(name="default", model="m/1")}, default_agent="default")
NOTHING = StuckSnapshot(
    now=NOW, workers=1, stalled=(), gates=(), by_agent=(), by_channel=(), inbox=None, users=()
)
FIVE = Waiting(name="default", state="pending", count=5, since=OLD, age_s=90.0)


def gate(name: str) -> ClosedGate:
    return ClosedGate(name=name, reason="status 401", closed_until=NOW + timedelta(seconds=9))


def kinds(waits: StuckSnapshot) -> list[StuckKind]:
    return [one.kind for one in stuck(waits, ROUTING)]


def test_where_nothing_waits_too_long_nothing_is_stuck() -> None:
    assert kinds(NOTHING) == []
    assert kinds(replace(NOTHING, workers=0)) == []
    assert kinds(replace(NOTHING, by_agent=(FIVE,))) == [], "they may wait for more messages"
    assert kinds(replace(NOTHING, gates=(gate("account"),))) == [], "nobody is behind it"


@pytest.mark.parametrize("name", ["account", "model:m/1", "agent:default", "webhook:web"])
def test_a_gate_is_stuck_where_somebody_has_waited_behind_it(name: str) -> None:
    waits = replace(
        NOTHING,
        gates=(gate(name), gate("model:other"), gate("webhook:other")),
        by_agent=() if "webhook" in name else (FIVE,),
        by_channel=(replace(FIVE, name="web", count=5),) if "webhook" in name else (),
    )
    (one,) = stuck(waits, ROUTING)
    assert (one.kind, one.since) == (StuckKind.GATE, OLD)
    assert one.why == f"5 wait behind gate {name}: status 401"


def test_no_worker_a_stalled_one_the_inbox_and_a_missing_agent_are_causes() -> None:
    waits = replace(
        NOTHING,
        workers=0,
        stalled=(replace(FIVE, name="host/7", count=1),),
        inbox=replace(FIVE, name="inbox", count=3),
        by_agent=(replace(FIVE, name="gone"),),
    )
    assert kinds(waits) == [
        StuckKind.NO_WORKER,
        StuckKind.STALLED_WORKER,
        StuckKind.INBOX,
        StuckKind.NO_AGENT,
    ]
    assert "8 wait" in stuck(waits, ROUTING)[0].why


def test_each_person_has_a_line_with_a_command_that_can_be_typed() -> None:
    person = StuckUser(
        kind=StuckKind.OVERDUE,
        user=ChannelUserId(4),
        message=MessageRowId(7),
        since=OLD,
        all_of_kind=1,
    )
    waits = replace(
        NOTHING,
        users=(
            replace(person, kind=StuckKind.DIVERGED),
            replace(person, kind=StuckKind.ERASING),
            person,
            replace(person, kind=StuckKind.DELIVERY, message=None),
        ),
    )
    commands = [one.command for one in stuck(waits, ROUTING)]
    assert commands == [
        "worker conversations show 4",
        "worker erase 4",
        "worker why 7",
        "worker status",
    ]
