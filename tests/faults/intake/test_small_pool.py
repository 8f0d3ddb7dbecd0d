"""A worker with few threads, whose calls take long."""

from tests.support.fleet import agents_file, fresh_ground
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis


def test_a_small_pool_that_is_busy_for_long_is_no_stall(
    shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis
) -> None:
    """Its size is that of Celery's option, whatever CONCURRENCY says; see the watchdog."""
    agents = agents_file(6.0) + "stall_after_s = 0.6\nwatch_s = 0.1\ndrain_s = 0.2\n"
    with fresh_ground(shared_postgres, broker_url=shared_redis.url, agents=agents) as ground:
        ground.fleet.options += ("-c", "4")
        (worker,) = ground.fleet.start()
        ground.simulator.reconfigure(latency_s=2.0)
        users = [ground.user() for _ in range(8)]
        ground.fleet.send(*(ground.envelope("hello", user=user) for user in users))
        ground.wait_until_final(*users, messages=8)
        assert worker.is_running
        assert "worker.stalled" not in worker.output()
        assert ground.database.value("SELECT count(*) FROM calls") == 8
