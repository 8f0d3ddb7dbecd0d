"""The rate of calls that all workers share, on a clock that stands still but for what is waited."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.world import HandDrivenWorker, World
from worker.domain.ids import MessageRowId
from worker.domain.reports.explain_ended import MessageStatus
from worker.domain.reports.explain_waiting import explain
from worker.domain.timing import Timing
from worker.handlers.turns.rate_limit import UNDER_WAY_S
from worker.store.database import Database
from worker.store.limits.rates import RateStore
from worker.store.reports.message_history import MessageReports

RATE = 5.0
AGENTS = f"""
[limits]
calls_per_second = {RATE}
[agents.default]
tools = ["order_status"]
[tools.order_status]
function = "tests.support.toolbox:order_status"
"""
_STAND_STILL = """
CREATE OR REPLACE FUNCTION service_now() RETURNS timestamptz LANGUAGE sql STABLE
    AS 'SELECT timestamptz ''2027-01-01 12:00Z'' + ahead FROM test_clock';
"""
ASK = 'tool:order_status {"order": 42}'


@pytest.fixture
def world(world: World) -> World:
    world.database.run(_STAND_STILL)
    return world


class Slept(list[float]):
    """Moves the world's clock instead of sleeping."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def __call__(self, seconds: float) -> None:
        self.append(seconds)
        self._world.clock.advance(seconds)


def paced(world: World, config: str = AGENTS) -> tuple[HandDrivenWorker, Slept]:
    worker, slept = world.worker(config), Slept(world)
    worker.service.answer.rate_limiter.sleep = slept
    return worker, slept


def reserve(worker: HandDrivenWorker, calls: int) -> None:
    """Take the next moments for others."""
    rates = worker.service.answer.rate_limiter.rates
    assert rates is not None
    for _ in range(calls):
        rates.reserve(9)


def fate_of_the_newest(world: World, worker: HandDrivenWorker) -> MessageStatus:
    newest = MessageRowId(world.database.value("SELECT max(id) FROM messages"))
    database = Database(world.database.url, pool_size=1)
    history = MessageReports(database).read(newest)
    database.close()
    assert history is not None
    return explain(history, worker.service.receive.routing(), Timing()).status


def called_at(world: World) -> list[int]:
    """When each call was intended, in milliseconds."""
    query = (
        "SELECT CAST(extract(epoch FROM intent_at) * 1000 AS bigint) AS at FROM calls ORDER BY 1"
    )
    return [row["at"] for row in world.database.rows(query)]


def test_two_workers_keep_one_rate_together_and_use_all_of_it(world: World) -> None:
    (mike, _), (anna, _) = paced(world), paced(world)
    for number in range(16):
        mike.accept_only(world.envelope("x", user=f"+1312555{number:04}"))
    looks = 0
    while any(row["outcome"] is None for row in world.messages()):
        looks += 1
        assert looks < 60
        for worker in (mike, anna):
            if worker.sweep() == 0:
                world.clock.advance(0.05)

    times = called_at(world)
    assert len(times) == 16
    for began in times:
        assert sum(began <= one < began + 1000 for one in times) <= RATE
    assert 3000 <= times[-1] - times[0] <= 3300, "fifteen gaps of 200 ms, and hardly a pause"
    assert world.database.value("SELECT max(lease_token) FROM channel_users") == 1, "no claim twice"


def test_workers_at_once_never_get_the_same_moment(world: World) -> None:
    databases = [Database(world.database.url, pool_size=2) for _ in range(2)]
    stores = [RateStore(one, calls_per_second=10) for one in databases]
    with ThreadPoolExecutor(4) as pool:
        waits = list(pool.map(lambda number: stores[number % 2].reserve(9), range(40)))
    assert None not in waits
    assert sorted(waits) == [number / 10 for number in range(40)]  # type: ignore[type-var]
    assert stores[0].reserve(1) is None
    assert stores[0].lead_s() == 4, "who does not wait takes nothing"
    world.database.run("UPDATE rates SET free_at = service_now() + interval '1 hour'")
    assert stores[0].lead_s() == 0
    assert stores[0].reserve(0) == 0, "nobody reserves so far ahead: the clock was wrong"
    for one in databases:
        one.close()


def test_what_is_fresh_waits_a_moment_but_not_before_those_in_line(world: World) -> None:
    mike, slept = paced(world)
    reserve(mike, 1)
    mike.receive(world.envelope("at once"))
    assert slept == [0.2]

    reserve(mike, 3)
    mike.receive(world.envelope("in line", user="+13125550002"))
    assert [row["outcome"] for row in world.messages()] == ["answered", None]
    (late,) = world.database.rows(
        "SELECT woken_at, lease_token, due_at IS NOT NULL AS due FROM channel_users"
        " WHERE address = '+13125550002'"
    )
    assert late == {"woken_at": None, "lease_token": 0, "due": True}, "left as it is, unclaimed"
    assert fate_of_the_newest(world, mike) is MessageStatus.RATE
    world.clock.advance(0.2)
    assert mike.sweep() == 1
    assert [row["outcome"] for row in world.messages()] == ["answered"] * 2


def test_sweepers_send_no_more_than_can_go_soon_and_look_again_before_long(world: World) -> None:
    mike, _ = paced(world)
    for number in range(8):
        mike.accept_only(world.envelope("x", user=f"+1312555{number:04}"))
    assert mike.service.background.sweep() == 0.25
    assert len(mike.broker.submitted) == 4
    reserve(mike, 6)
    assert mike.service.background.sweep() == 0.25
    assert len(mike.broker.submitted) == 4, "every moment of the next second is taken"
    assert mike.service.answer.slots.rate_limited
    world.clock.advance(9)
    for _ in range(2):
        mike.service.background.sweep()
    assert len(mike.broker.submitted) == 8
    assert not mike.service.answer.slots.rate_limited, "all have been told"


def test_a_woken_user_whose_moment_is_too_far_is_left_to_the_next_sweep(world: World) -> None:
    (mike, slept), anna = paced(world), world.worker(AGENTS)
    mike.accept_only(world.envelope("x"))
    anna.service.background.sweep()
    reserve(mike, 8)
    (due,) = anna.broker.woken
    assert mike.service.answer(*due) == []
    assert slept == []
    world.clock.advance(2)
    assert mike.sweep() == 1
    assert [row["outcome"] for row in world.messages()] == ["answered"]


def test_a_claim_without_a_call_leaves_its_moment_to_the_next(world: World) -> None:
    mike, slept = paced(world)
    for user in ("+13125550001", "+13125550002"):
        mike.accept_only(world.envelope("gone", user=user, expires_at="2020-01-01T00:00:00Z"))
    mike.accept_only(world.envelope("hello", user="+13125550003"))
    world.clock.advance(1)
    mike.sweep()
    assert [row["outcome"] for row in world.messages()] == ["expired", "expired", "answered"]
    assert slept == []


def test_a_tools_output_waits_for_its_moment_and_goes_later_where_that_is_far(
    world: World,
) -> None:
    mike, slept = paced(world)
    store = mike.service.answer.turns
    start = store.start_tools
    ahead = [10, 30]

    def crowded(*given: object) -> object:
        reserve(mike, ahead.pop(0))
        return start(*given)  # type: ignore[arg-type]

    object.__setattr__(store, "start_tools", crowded)
    mike.receive(world.envelope(ASK))
    assert [row["outcome"] for row in world.messages()] == ["answered"]
    assert slept == [2.2], "ten others at five a second, and its own first call"

    world.clock.advance(5)
    mike.receive(world.envelope(ASK, user="+13125550002"))
    assert [row["outcome"] for row in world.messages()] == ["answered", None]
    due = "SELECT max(extract(epoch FROM due_at - service_now())) FROM channel_users"
    assert world.database.value(due) == UNDER_WAY_S
    world.clock.advance(7)
    mike.sweep()
    assert [row["outcome"] for row in world.messages()] == ["answered"] * 2
    runs = world.database.rows("SELECT state FROM tool_calls")
    assert [row["state"] for row in runs] == ["done", "done"], "and no tool ran twice"


def test_without_a_limit_nothing_is_asked(world: World) -> None:
    mike, slept = paced(world, "")
    mike.receive(world.envelope("x"))
    mike.accept_only(world.envelope("y"))
    mike.answer()
    assert world.database.value("SELECT count(*) FROM rates") == 0
    assert slept == []
