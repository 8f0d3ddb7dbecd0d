"""The long scenarios that a promise names, each with real workers, Redis and Postgres.

    python -m tests.chaos.scenarios              all of them, about fifteen minutes
    python -m tests.chaos.scenarios flushall     one

Prints what was counted and every violation; exits 1 where there is one.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from alembic import command
from redis import Redis
from sqlalchemy import create_engine

from tests.support.databases import alembic_config
from tests.support.fleet import Ground, agents_file, running_fleet
from tests.support.oracle import Expectations, Violation, check
from tests.support.processes import open_folder
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import Simulator, SimulatorConfig

MESSAGES = 2000
WRONG_KEY_S = 300.0
UNSCALED = "[agents.default]\n"
"""The waits as they are in production."""


class Scene:
    """Servers, a fleet without workers yet, and what is counted at the end."""

    def __init__(self, ground: Ground, redis: EmbeddedRedis) -> None:
        self.ground = ground
        self.redis = redis
        self.sent = 0

    def send(self, *, users: int, each: int) -> None:
        """Queue numbered messages, all users' first ones first."""
        for number in range(1, each + 1):
            for user in range(users):
                address = f"user{user}@example.org"
                self.ground.fleet.send(
                    {
                        "version": 1,
                        "channel": "web",
                        "user": address,
                        "message_id": str(number),
                        "text": f"u{user} #{number}",
                    }
                )
        self.sent += users * each

    def count(self, condition: str = "true") -> int:
        return int(self.ground.database.value(f"SELECT count(*) FROM messages WHERE {condition}"))

    def wait_accepted(self, seconds: float = 300) -> None:
        self.wait(lambda: self.count() >= self.sent, seconds)

    def wait_final(self, seconds: float) -> None:
        self.wait(lambda: self.count("outcome IS NOT NULL") >= self.sent, seconds)

    def wait(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                print(f"not done after {seconds:.0f} s")
                return
            time.sleep(0.5)

    def violations(self) -> list[Violation]:
        found = check(self.ground.database, self.ground.simulator.log(), Expectations(slack_s=0.1))
        if self.count() != self.sent:
            found.append(Violation("I1", f"{self.sent} sent, {self.count()} accepted"))
        return found

    def told(self) -> dict[str, Any]:
        def grouped(query: str) -> dict[str, int]:
            return {str(row["name"]): row["n"] for row in self.ground.database.rows(query)}

        return {
            "outcomes": grouped("SELECT outcome AS name, count(*) AS n FROM messages GROUP BY 1"),
            "replies": grouped("SELECT source AS name, count(*) AS n FROM replies GROUP BY 1"),
            "calls": grouped("SELECT state AS name, count(*) AS n FROM calls GROUP BY 1"),
            "dead_letters": grouped(
                "SELECT reason AS name, count(*) AS n FROM dead_letters GROUP BY 1"
            ),
        }


@contextmanager
def scene(config: SimulatorConfig, agents: str) -> Iterator[Scene]:
    """Start servers of our own, migrated."""
    with (
        open_folder() as folder,
        EmbeddedPostgres(folder / "postgres", fast=True) as postgres,
        EmbeddedRedis(folder / "redis") as redis,
        Simulator(config, folder / "telnyx.jsonl") as simulator,
    ):
        _migrate(postgres.url)
        with running_fleet(
            folder,
            database_url=postgres.url,
            broker_url=redis.url,
            simulator=simulator,
            agents=agents,
        ) as ground:
            yield Scene(ground, redis)


def _migrate(url: str) -> None:
    engine = create_engine(url)
    settings = alembic_config()
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
    engine.dispose()


def stored_then(fault: str) -> list[Violation]:
    """Telnyx stores the turn and then fails, in 30 % of all calls."""
    config = SimulatorConfig(latency_s=0.2, fault_chances={fault: 0.3})
    with scene(config, UNSCALED) as stage:
        stage.ground.fleet.start(2, CONCURRENCY="116")
        stage.send(users=MESSAGES, each=1)
        stage.wait_final(420)
        return _report(stage)


def flushall() -> list[Violation]:
    """Redis loses everything in the middle, and a little later dies and comes back."""
    with scene(SimulatorConfig(latency_s=1.0), UNSCALED) as stage:
        _accept_slowly(stage)
        with Redis.from_url(stage.redis.url) as client:
            client.flushall()
        stage.wait(lambda: stage.count("outcome IS NOT NULL") > MESSAGES // 3, 200)
        stage.redis.kill()
        time.sleep(5)
        stage.redis.restart()
        stage.wait_final(300)
        return _report(stage)


def redis_gone() -> list[Violation]:
    """Redis dies and never comes back: what Postgres holds still drains."""
    with scene(SimulatorConfig(latency_s=1.0), UNSCALED) as stage:
        _accept_slowly(stage)
        stage.redis.kill()
        stage.wait_final(400)
        return _report(stage)


def frozen() -> list[Violation]:
    """200 users, 25 messages each; workers are stopped past their lease, one after the other."""
    with scene(SimulatorConfig(latency_s=0.3), agents_file(3.0)) as stage:
        workers = stage.ground.fleet.start(3, CONCURRENCY="56")
        stage.send(users=200, each=25)
        for turn in range(9):
            worker = workers[turn % 3]
            worker.freeze()
            time.sleep(6)  # the lease lasts 4.5 s, a heartbeat 1.5 s
            worker.thaw()
        stage.wait_final(300)
        return _report(stage)


def wrong_key() -> list[Violation]:
    """The key is wrong for five minutes, then right again: messages wait, none dies."""
    with scene(SimulatorConfig(latency_s=0.2), UNSCALED) as stage:
        right = stage.ground.simulator.api_key
        stage.ground.simulator.set_api_key("KEY-another")
        stage.ground.fleet.start(2, CONCURRENCY="66")
        stage.send(users=300, each=2)
        time.sleep(WRONG_KEY_S)
        print("answered with the wrong key:", stage.count("outcome IS NOT NULL"))
        stage.ground.simulator.set_api_key(right)
        stage.wait_final(400)
        found = _report(stage)
        if letters := stage.ground.database.value("SELECT count(*) FROM dead_letters"):
            found.append(Violation("operator's fault", f"{letters} dead letters"))
        return found


def _accept_slowly(stage: Scene) -> None:
    """Have all messages accepted, and hardly any answered yet."""
    stage.ground.fleet.start(2, CONCURRENCY="36")
    stage.send(users=400, each=MESSAGES // 400)
    stage.wait_accepted()
    print("accepted", stage.count(), "of which ended", stage.count("outcome IS NOT NULL"))


def _report(stage: Scene) -> list[Violation]:
    for name, counts in stage.told().items():
        print(f"  {name:<13} {counts}")
    return stage.violations()


SCENARIOS: dict[str, Callable[[], list[Violation]]] = {
    "stored_then_dropped": lambda: stored_then("stored_then_dropped"),
    "stored_then_429": lambda: stored_then("stored_then_429_reset"),
    "stored_then_503": lambda: stored_then("stored_then_503"),
    "flushall": flushall,
    "redis_gone": redis_gone,
    "frozen": frozen,
    "wrong_key": wrong_key,
}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*SCENARIOS, []])
    names = parser.parse_args().names or list(SCENARIOS)
    failed = 0
    for name in names:
        print(f"{name}: {SCENARIOS[name].__doc__ or ''}".strip(), flush=True)
        started = time.monotonic()
        found = SCENARIOS[name]()
        for violation in found[:20]:
            print(f"  VIOLATION {violation}")
        failed += bool(found)
        verdict = "FAILED" if found else "ok"
        print(
            f"  {verdict}: {len(found)} violations, {time.monotonic() - started:.0f} s", flush=True
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
