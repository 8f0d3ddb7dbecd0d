"""A real worker whose slots a flood has taken answers somebody else among the first."""

from collections.abc import Iterator

import pytest

from tests.support.fleet import Ground, agents_file, fresh_ground
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import SimulatorConfig

FLOOD = 80
SLOTS = 4
AHEAD = 3 + 20
"""As many turns of one address, and of one group, are due before the others are surplus."""
FLOODS = {
    "threads": [("eve@evil.example", f"t{number}") for number in range(FLOOD)],
    "numbers": [(f"+1312555{number:04}", "") for number in range(FLOOD)],
}


@pytest.fixture(scope="module")
def ground(shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis) -> Iterator[Ground]:
    with fresh_ground(
        shared_postgres,
        broker_url=shared_redis.url_of(3),
        agents=agents_file(),
        simulated=SimulatorConfig(list_visible_after_s=0),
    ) as ground:
        ground.fleet.concurrency = 16 + SLOTS
        ground.fleet.start()
        yield ground


@pytest.mark.parametrize("kind", FLOODS)
def test_who_writes_once_is_answered_before_most_of_a_flood(ground: Ground, kind: str) -> None:
    users, quiet = {user for user, _ in FLOODS[kind]}, f"{kind}@shop.example"

    def waiting() -> int:
        return ground.outcomes(*users).count(None)

    ground.simulator.reconfigure(latency_s=1.0)
    flood = [ground.envelope("buy", user=user, thread=thread) for user, thread in FLOODS[kind]]
    ground.fleet.send(*flood)
    ground.fleet.wait_for(lambda: len(ground.outcomes(*users)) == FLOOD)
    ground.fleet.send(ground.envelope("when do you open?", user=quiet))
    ground.fleet.wait_for(lambda: len(ground.outcomes(quiet)) == 1)
    before = waiting()
    ground.simulator.reconfigure(latency_s=0.1)
    ground.wait_until_final(quiet, messages=1)
    # All slots were the flood's; those of its turns that are not surplus may have been first.
    assert before - waiting() <= AHEAD + 3 * SLOTS < before
    ground.wait_until_final(*users, messages=FLOOD)
    assert set(ground.outcomes(quiet, *users)) == {"answered"}, "nothing waits for ever"
