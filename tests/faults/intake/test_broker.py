"""What may happen to Redis, to the way there, and to wakes, which are no more than hints."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from tests.support import oracle
from tests.support.fleet import Ground, agents_file, fresh_ground
from tests.support.processes import open_folder
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.world import World
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis

AGENTS = "[agents.default]\ncall_timeout_s = 5\n"


@pytest.fixture
def world(world: World) -> Iterator[World]:
    yield world
    seen = oracle.Expectations(slack_s=0.2)
    assert oracle.check(world.database, world.simulator.log(), seen) == []


def test_a_wake_that_got_lost_is_sent_again_after_a_while(world: World) -> None:
    mike, anna = world.worker(AGENTS), world.worker(AGENTS)
    mike.accept_only(world.envelope("hello"))
    anna.service.background.sweep()
    assert len(anna.broker.woken) == 1
    anna.broker.woken.clear()  # Redis was flushed
    assert mike.sweep() == 0, "another sweeper does not send the same wake at once"
    world.clock.advance(11)
    anna.service.background.workers.beat()
    assert anna.sweep() == 1
    assert world.inputs() == ["hello"]


def test_wakes_that_come_twice_and_late_do_nothing(world: World) -> None:
    mike, anna = world.worker(AGENTS), world.worker(AGENTS)
    mike.accept_only(world.envelope("hello"))
    user = world.database.value("SELECT id FROM channel_users")
    world.simulator.reconfigure(latency_s=0.2)
    with ThreadPoolExecutor(4) as pool:
        turns = list(pool.map(lambda one: one.service.answer(user), (mike, anna, mike, anna)))
    assert sorted(map(len, turns)) == [0, 0, 0, 1]
    assert anna.service.answer(user) == [], "late"
    assert anna.service.answer(user + 100) == [], "for nobody"
    assert world.inputs() == ["hello"]
    assert world.database.value("SELECT count(*) FROM calls") == 1


def test_a_wake_before_its_time_leaves_the_burst_waiting(world: World) -> None:
    mike = world.worker(AGENTS + "[channels.sms]\ndebounce_s = 5\nmax_wait_s = 20\n")
    mike.receive(world.envelope("one"))
    user = world.database.value("SELECT id FROM channel_users")
    assert mike.service.answer(user) == []
    mike.receive(world.envelope("two"))
    world.clock.advance(6)
    mike.service.background.workers.beat()
    assert len(mike.service.answer(user)) == 1
    assert world.inputs() == ["one\ntwo"]


def test_a_wake_of_a_delivery_that_got_lost_is_made_up_by_the_sweeper(world: World) -> None:
    mike = world.worker(AGENTS + '[channels.sms.delivery]\ntask = "store"\nqueue = "out"\n')
    mike.receive(world.envelope("hello"))
    mike.broker.deliveries.clear()
    world.clock.advance(2)
    mike.service.background.workers.beat()
    mike.service.background.sweep()
    mike.service.close()  # waits for what runs
    assert [task for task, *_ in mike.broker.tasks] == ["store"]
    assert world.database.value("SELECT state FROM deliveries") == "sent"


@pytest.fixture(scope="module")
def redis() -> Iterator[EmbeddedRedis]:
    """A Redis of this module's own, to be flushed, killed and lost."""
    with open_folder() as folder, EmbeddedRedis(folder / "redis") as server:
        yield server


@pytest.fixture(scope="module")
def proxy(redis: EmbeddedRedis) -> Iterator[TcpProxy]:
    """Stands between the workers and Redis; producers go straight."""
    with TcpProxy(("127.0.0.1", redis.port)) as made:
        yield made


@pytest.fixture(scope="module")
def shared_ground(
    shared_postgres: EmbeddedPostgres, redis: EmbeddedRedis, proxy: TcpProxy
) -> Iterator[Ground]:
    # Only Redis dies here: a worker that the machine holds up is not to be taken for dead.
    agents = agents_file(3.0).replace("alive_s = 1.5", "alive_s = 15")
    with fresh_ground(shared_postgres, broker_url=redis.url, agents=agents) as ground:
        ground.fleet.start(1, BROKER_URL=redis.url_of(0, port=proxy.port))
        yield ground


@pytest.fixture
def ground(shared_ground: Ground, redis: EmbeddedRedis, proxy: TcpProxy) -> Iterator[Ground]:
    shared_ground.simulator.reconfigure(latency_s=0.0)
    yield shared_ground
    proxy.mode = Mode.PASS
    assert shared_ground.fleet.running() == shared_ground.fleet.workers, "the worker stays up"
    seen = oracle.Expectations(slack_s=0.2)
    found = oracle.check(shared_ground.database, shared_ground.simulator.log(), seen)
    assert found == []


def flood(ground: Ground, number: int, *, latency_s: float = 0.3) -> list[str]:
    """Queue a message each of so many users, and wait until Postgres has them all."""
    users = [ground.user() for _ in range(number)]
    ground.simulator.reconfigure(latency_s=latency_s)
    ground.fleet.send(*(ground.envelope(f"hello from {user}", user=user) for user in users))
    ground.fleet.wait_for(lambda: len(ground.outcomes(*users)) == number)
    assert None in ground.outcomes(*users), "some are still to be answered"
    return users


def assert_answered_once(ground: Ground, users: list[str]) -> None:
    ground.wait_until_final(*users, messages=len(users))
    assert [ground.said(user) for user in users] == [[f"hello from {user}"] for user in users]
    assert all(len(ground.sources(user)) == 1 for user in users)


def test_a_flushed_redis_loses_nothing_that_was_accepted(
    ground: Ground, redis: EmbeddedRedis
) -> None:
    users = flood(ground, 30)
    with Redis.from_url(redis.url) as client:
        client.flushall()
    assert_answered_once(ground, users)


def test_an_envelope_that_was_queued_three_times_is_one_message(ground: Ground) -> None:
    user = ground.user()
    ground.fleet.send(*[ground.envelope(f"hello from {user}", user=user)] * 3)
    assert_answered_once(ground, [user])


def test_connections_to_redis_that_are_reset_lose_and_double_nothing(
    ground: Ground, proxy: TcpProxy
) -> None:
    users = flood(ground, 20)
    connections = proxy.accepted
    proxy.reset_all()
    # What Redis hands to a connection that has just died is lost, and was never accepted.
    ground.fleet.wait_for(lambda: proxy.accepted > connections + 1)
    users += flood(ground, 5)
    assert_answered_once(ground, users)


def test_half_open_connections_are_given_up_and_the_worker_consumes_again(
    ground: Ground, redis: EmbeddedRedis, proxy: TcpProxy
) -> None:
    users = flood(ground, 20)
    proxy.strand()
    # Until Redis' own timeout, a BRPOP on a stranded connection takes entries, which are lost.
    with Redis.from_url(redis.url) as client:
        ground.fleet.wait_for(lambda: client.info("clients")["blocked_clients"] == 0)
    late = [ground.user() for _ in range(5)]
    ground.fleet.send(*(ground.envelope(f"hello from {user}", user=user) for user in late))
    assert_answered_once(ground, users + late)


def test_redis_may_be_away_for_a_while(ground: Ground, redis: EmbeddedRedis) -> None:
    # Slow enough that tasks run over the loss: what ends then is acknowledged to nobody.
    users = flood(ground, 12, latency_s=1.0)
    redis.kill()
    assert_answered_once(ground, users)
    redis.restart()
    late = [ground.user() for _ in range(5)]
    ground.fleet.send(*(ground.envelope(f"hello from {user}", user=user) for user in late))
    assert_answered_once(ground, late)


def test_with_redis_gone_for_good_what_postgres_has_is_answered(
    ground: Ground, redis: EmbeddedRedis
) -> None:
    users = flood(ground, 12, latency_s=1.0)
    redis.kill()
    assert_answered_once(ground, users)


def test_a_worker_that_ends_while_redis_is_away_ends_its_turns_first(
    ground: Ground, redis: EmbeddedRedis
) -> None:
    redis.restart()
    leaving, other = ground.at_least(2)
    users = flood(ground, 28, latency_s=0.6)
    redis.kill()
    # Eight at once: those after the first two rounds have no wake.
    ground.fleet.wait_for(lambda: ground.outcomes(*users).count("answered") >= 16)
    leaving.terminate()
    assert leaving.wait() == 0, leaving.output()[-3000:]
    ground.fleet.workers.remove(leaving)
    assert_answered_once(ground, users)
    assert {source for user in users for source in ground.sources(user)} == {"call"}
    assert "lease.stale" not in leaving.output() + other.output()
