"""Postgres' clock jumps; machines' own clocks do not."""

import threading
from collections.abc import Iterator

import pytest

from tests.support import oracle
from tests.support.processes import eventually
from tests.support.tcp_proxy import Mode, TcpProxy, telnyx_of, worker_through
from tests.support.world import HandDrivenWorker, World
from worker.sandbox.simulator import Endpoint
from worker.sandbox.simulator.record.events import RequestReceived

AGENTS = "[agents.default]\ncall_timeout_s = 5\n"
QUIET_S = 2 + 5 + 90 + 13
HOUR_S = 3600.0


@pytest.fixture
def world(world: World) -> Iterator[World]:
    yield world
    seen = oracle.Expectations(slack_s=0.2)
    assert oracle.check(world.database, world.simulator.log(), seen) == []


def beat(worker: HandDrivenWorker) -> None:
    worker.service.background.watch.beat()


def posts(world: World) -> int:
    return sum(
        isinstance(entry.event, RequestReceived) and entry.event.endpoint == Endpoint.RESPONSES
        for entry in world.simulator.log()
    )


def heal(world: World) -> None:
    """Let another process, which knows nothing of the jump by itself, work in service time."""
    anna = world.worker(AGENTS)
    for _ in range(100):
        anna.answer()
        if not world.database.rows("SELECT FROM messages WHERE outcome IS NULL"):
            return
        world.clock.advance(5)
        anna.service.background.workers.beat()
    raise AssertionError(f"not final: {world.messages()}")


def call_under_way(world: World) -> tuple[HandDrivenWorker, threading.Thread]:
    """Let one worker wait for Telnyx; return another one, and the thread of the first."""
    mike, anna = world.worker(AGENTS), world.worker(AGENTS)
    mike.receive(world.envelope("one"))
    beat(mike)
    beat(anna)
    world.simulator.reconfigure(latency_s=1.0)
    call = threading.Thread(target=mike.receive, args=(world.envelope("two"),))
    call.start()
    assert eventually(lambda: posts(world) == 2)
    return anna, call


@pytest.mark.parametrize("noticed_by", ["a heartbeat", "a claim"])
def test_a_call_that_runs_while_the_clock_jumps_is_not_made_again(
    world: World, noticed_by: str
) -> None:
    anna, call = call_under_way(world)

    world.clock.advance(QUIET_S + 60)
    if noticed_by == "a heartbeat":
        beat(anna)
    anna.answer()
    assert posts(world) == 2, "T_QUIET is not over, whatever the clock says"
    call.join()
    world.simulator.reconfigure(latency_s=0.0)
    heal(world)
    assert world.inputs() == ["one", "two"]
    assert {row["outcome"] for row in world.messages()} == {"answered"}


def test_a_request_that_is_still_on_its_way_is_not_sent_again(world: World) -> None:
    with TcpProxy(telnyx_of(world)) as proxy:
        fast = "[agents.default]\ncall_timeout_s = 0.5\n"
        mike, anna = worker_through(world, fast, telnyx=proxy), world.worker(fast)
        mike.receive(world.envelope("one"))
        beat(anna)
        proxy.mode = Mode.BLACK_HOLE
        mike.receive(world.envelope("two"))
        world.clock.advance(HOUR_S)
        anna.answer()
        proxy.mode = Mode.PASS
        assert eventually(lambda: posts(world) == 2)
        heal(world)
    assert world.inputs() == ["one", "two"]


def test_after_a_jump_leases_hold_for_as_long_as_before(world: World) -> None:
    anna, call = call_under_way(world)
    world.clock.advance(HOUR_S)
    beat(anna)
    assert anna.sweep() == 0, "mike lives, and has the user"
    call.join()
    assert [row["source"] for row in world.replies()] == ["call", "call"]


def test_a_clock_set_back_lets_nobody_wait_longer(world: World) -> None:
    mike = world.worker(AGENTS)
    beat(mike)
    mike.receive(world.envelope("one"))
    mike.accept_only(world.envelope("two"))
    world.clock.advance(-HOUR_S)
    assert mike.sweep() == 0
    beat(mike)
    mike.answer()
    assert world.inputs() == ["one", "two"]


def test_two_processes_that_see_a_jump_shift_the_times_once(world: World) -> None:
    mike, anna = world.worker(AGENTS), world.worker(AGENTS)
    beat(mike)
    beat(anna)
    mike.service.background.sweep()
    world.database.run(
        "INSERT INTO gates (name, closed_until, reason) VALUES ('account', service_now() +"
        " interval '50 s', 'test')"
    )
    world.clock.advance(HOUR_S)
    beat(mike)
    beat(anna)
    left = "SELECT extract(epoch FROM closed_until - service_now()) FROM gates"
    assert 30 < world.database.value(left) < 51
    world.database.run("DELETE FROM gates")
