"""What may happen to a worker process: killed, frozen, told to end, cut off from Postgres, full."""

import time
from collections.abc import Iterator

import pytest

from tests.support import oracle
from tests.support.fleet import Ground, agents_file, fresh_ground
from tests.support.tcp_proxy import Mode, TcpProxy, postgres_socket
from tests.support.telnyx_events import event, inbound
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import Match
from worker.sandbox.simulator.behaviour.plans import Wire

SLOTS = 4
"""Turns that run at once in a process with CONCURRENCY=20."""
DELIVERED = """
[channels.push.delivery]
task = "replies.store"
queue = "outbound"
"""


@pytest.fixture(scope="module")
def proxy(shared_postgres: EmbeddedPostgres) -> Iterator[TcpProxy]:
    """Stands between the workers and Postgres."""
    with TcpProxy(postgres_socket(shared_postgres.url)) as made:
        yield made


@pytest.fixture(scope="module")
def shared_ground(
    shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis, proxy: TcpProxy
) -> Iterator[Ground]:
    with fresh_ground(
        shared_postgres,
        broker_url=shared_redis.url,
        agents=agents_file(3.0, DELIVERED),
        proxy=proxy,
    ) as ground:
        yield ground
        seen = oracle.Expectations(slack_s=0.2)
        assert oracle.check(ground.database, ground.simulator.log(), seen) == []


@pytest.fixture
def ground(shared_ground: Ground) -> Ground:
    shared_ground.simulator.clear_faults()
    shared_ground.simulator.reconfigure(latency_s=0.0)
    return shared_ground


def test_an_event_that_the_gateway_queued_is_taken_and_answered(ground: Ground) -> None:
    ground.at_least(1)
    sender = "+13125550777"
    kwargs = {"event": event("message.received", inbound(**{"from": sender})), "key": None}
    ground.fleet.producer.send_task("channels.event", kwargs=kwargs, queue="inbound")
    ground.wait_until_final(sender, messages=1)
    assert ground.outcomes(sender) == ["answered"]


def test_the_call_of_a_killed_worker_is_adopted_by_another(ground: Ground) -> None:
    ground.at_least(2)
    user = ground.user()
    ground.simulator.reconfigure(latency_s=0.5)
    ground.fleet.send(ground.envelope("before the kill", user=user))
    ground.wait_for_call("before the kill").kill()
    ground.fleet.send(ground.envelope("after the kill", user=user))
    ground.wait_until_final(user, messages=2)

    assert ground.said(user) == ["before the kill", "after the kill"]
    assert ground.sources(user) == ["adopted", "call"]


def test_a_call_that_died_with_its_worker_before_telnyx_saw_it_is_sent_after_t_quiet(
    ground: Ground,
) -> None:
    ground.at_least(2)
    user = ground.user()
    ground.simulator.inject("hang", match=Match(text="never stored"))
    ground.fleet.send(ground.envelope("never stored", user=user))
    ground.wait_for_call("never stored").kill()
    ground.wait_until_final(user, messages=1)

    assert ground.said(user) == ["never stored"]
    assert ground.sources(user) == ["call"]


def test_a_worker_that_slept_through_its_lease_writes_nothing_when_it_wakes_up(
    ground: Ground,
) -> None:
    ground.at_least(2)
    user = ground.user()
    ground.simulator.reconfigure(latency_s=0.3)
    ground.fleet.send(ground.envelope("while you sleep", user=user))
    sleeper = ground.wait_for_call("while you sleep")
    sleeper.freeze()
    ground.wait_until_final(user, messages=1)
    before = ground.database.rows("SELECT * FROM replies JOIN turns ON turns.id = turn_id")
    sleeper.thaw()
    ground.fleet.wait_for(lambda: "lease.stale" in sleeper.output())

    assert ground.database.rows("SELECT * FROM replies JOIN turns ON turns.id = turn_id") == before
    assert ground.sources(user) == ["adopted"]
    ground.fleet.send(ground.envelope("good morning", user=user))
    ground.wait_until_final(user, messages=2)
    assert ground.said(user) == ["while you sleep", "good morning"]


def test_sigterm_lets_a_running_call_finish_and_starts_no_other(ground: Ground) -> None:
    (worker,) = ground.at_least(1)
    running, later = ground.user(), ground.user()
    ground.simulator.reconfigure(latency_s=1.5)
    ground.fleet.send(ground.envelope("still running", user=running))
    assert ground.wait_for_call("still running") is worker
    worker.terminate()
    ground.fleet.wait_for(lambda: "Warm shutdown" in worker.output())
    ground.fleet.send(ground.envelope("too late", user=later))
    ground.database.run("UPDATE channel_users SET due_at = now() WHERE address = %s", later)

    assert worker.wait() == 0
    assert ground.sources(running) == ["call"], worker.output()[-3000:]
    assert ground.said(later) == []
    ground.at_least(1)
    ground.wait_until_final(running, later, messages=2)
    assert ground.said(running) == ["still running"]
    assert ground.said(later) == ["too late"]


def test_sigterm_ends_the_turns_of_a_list_before_the_worker(ground: Ground) -> None:
    (worker,) = ground.at_least(1)
    users = [ground.user() for _ in range(SLOTS)]
    ground.fleet.send(*(ground.envelope(f"before of {user}", user=user) for user in users))
    ground.wait_until_final(*users, messages=SLOTS)
    ground.simulator.reconfigure(latency_s=1.5)
    envelopes = [ground.envelope(f"slow of {user}", user=user) for user in users]
    ground.fleet.producer.send_task(
        "messages.receive", kwargs={"envelope": envelopes}, queue="inbound"
    )
    for user in users:
        assert ground.wait_for_call(f"slow of {user}") is worker
    worker.terminate()
    assert worker.wait() == 0
    assert ground.outcomes(*users) == ["answered"] * SLOTS * 2, "all at once, and none left behind"
    assert [ground.sources(user) for user in users] == [["call", "call"]] * SLOTS


def test_a_rolling_restart_under_load_loses_and_doubles_nothing(ground: Ground) -> None:
    old = ground.at_least(2)
    users = [ground.user() for _ in range(30)]
    ground.simulator.reconfigure(latency_s=0.05)
    for number in range(3):
        ground.fleet.send(*(ground.envelope(f"{number} of {user}", user=user) for user in users))
        if number < len(old):
            old[number].terminate()
            ground.fleet.start(1)
    ground.wait_until_final(*users, messages=90)

    assert [worker.wait() for worker in old] == [0, 0]
    for user in users:
        assert sorted(ground.said(user)) == [f"{number} of {user}" for number in range(3)]
    assert ground.simulator.overlaps(slack_s=0.2) == ()


def test_with_every_slot_waiting_for_telnyx_envelopes_are_accepted_and_replies_delivered(
    ground: Ground,
) -> None:
    ground.at_least(1)
    pushed, late = ground.user(), ground.user()
    busy = [ground.user() for _ in range(SLOTS)]
    ground.fleet.send(ground.envelope("push", user=pushed, channel="push"))
    ground.wait_until_final(pushed, messages=1)
    ground.simulator.inject("hang", match=Match(text="slow one"), count=SLOTS, wire=Wire.HANG)
    ground.fleet.send(*(ground.envelope("slow one", user=user) for user in busy))
    calls = "SELECT count(*) FROM calls WHERE state = 'intended'"
    ground.fleet.wait_for(lambda: ground.database.value(calls) == SLOTS)

    sent_at = time.monotonic()
    ground.fleet.send(ground.envelope("let me in", user=late))
    again = "UPDATE deliveries SET state = 'pending', due_at = now() WHERE channel = 'push'"
    ground.database.run(again)
    undone = "SELECT count(*) FROM deliveries WHERE due_at IS NOT NULL"
    ground.fleet.wait_for(
        lambda: ground.outcomes(late) == [None] and ground.database.value(undone) == 0
    )
    # A second is the promise; a machine that others use may take one more. A slot takes three.
    assert time.monotonic() - sent_at < 2.0
    assert ground.database.value(calls) == SLOTS, "all slots were taken all the time"
    ground.wait_until_final(late, *busy, messages=1 + SLOTS)


def test_while_postgres_is_away_envelopes_wait_in_redis_and_the_worker_stays_up(
    ground: Ground, proxy: TcpProxy
) -> None:
    (worker,) = ground.at_least(1)
    users = [ground.user() for _ in range(10)]
    proxy.mode = Mode.REFUSE
    proxy.reset_all()
    ground.fleet.send(*(ground.envelope("is somebody there?", user=user) for user in users))
    (late,) = ground.fleet.start(1, ready=False)
    ground.fleet.wait_for(lambda: "heartbeat.failed" in worker.output())
    ground.fleet.wait_for(lambda: "worker.waits_for_postgres" in late.output())
    assert ground.outcomes(*users) == []
    proxy.mode = Mode.PASS
    ground.wait_until_final(*users, messages=10)

    assert worker.is_running
    ground.fleet.wait_ready(late)
    assert [ground.said(user) for user in users] == [["is somebody there?"]] * 10
    assert ground.database.value("SELECT count(*) FROM dead_letters") == 0
