"""`worker stuck`, with each thing that may be stuck planted in one shared world."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cli import Said, invoke
from tests.support.databases import fresh_database
from tests.support.world import NAMESPACE, World, running_world
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator.behaviour.config import SimulatorConfig

AGENTS = '[channels.out.delivery]\ntask = "t"\nqueue = "q"\n'
CLEAN = """
TRUNCATE channel_users, messages, conversations, turns, calls, replies, deliveries, dead_letters,
    gates, inbox, attempt_log, tool_calls, erasures CASCADE
"""


@pytest.fixture(scope="module")
def shared_world(
    shared_postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder, config = tmp_path_factory.mktemp("world"), SimulatorConfig(list_visible_after_s=0)
    with (
        fresh_database(shared_postgres) as url,
        running_world(url, folder, config) as made,
    ):
        yield made


@pytest.fixture
def world(shared_world: World) -> World:
    shared_world.database.run(CLEAN)
    return shared_world


def run(world: World, *options: str, command: str = "stuck") -> Said:
    return invoke(
        command,
        *options,
        env={
            "DATABASE_URL": world.database.url,
            "BROKER_URL": world.broker_url,
            "NAMESPACE": str(NAMESPACE),
            "SANDBOX_DIR": str(world.folder / "none"),
        },
    )


def stuck(world: World) -> list[dict[str, Any]]:
    """What scripts get; the exit code says whether there is anything."""
    said = run(world, "--json")
    found: list[dict[str, Any]] = json.loads(said.stdout)["stuck"]
    assert said.returncode == (1 if found else 0)
    assert "+1312" not in said.stdout + run(world).stdout
    return found


def kinds(world: World) -> list[str]:
    return [one["kind"] for one in stuck(world)]


def test_what_is_answered_or_waits_for_a_while_is_not_stuck(world: World) -> None:
    mike = world.worker(AGENTS)
    mike.receive(world.envelope("hello"))
    mike.accept_only(world.envelope("hello", user="+13125550002"))
    assert stuck(world) == []
    assert "nothing has waited" in run(world).stdout


def test_who_is_due_and_taken_up_by_nobody_is_named_with_their_message(world: World) -> None:
    mike = world.worker(AGENTS)
    message = mike.accept_only(world.envelope("hello"))
    world.clock.advance(70)
    assert kinds(world) == ["no_worker", "overdue"]
    mike.service.background.workers.beat(0.0)
    (one,) = stuck(world)
    assert message is not None
    assert (one["kind"], one["user"]) == ("overdue", message.user_id)
    assert one["command"] == f"worker why {message.id}"
    assert f"worker why {message.id}" in run(world).stdout
    mike.answer()
    assert stuck(world) == []


def test_a_lease_counts_until_it_or_its_worker_ends(world: World) -> None:
    mike, anna = world.worker(AGENTS), world.worker(AGENTS)
    mike.accept_only(world.envelope("hello"))
    world.database.run(
        "UPDATE channel_users SET lease_until = service_now() + interval '900 s',"
        " lease_owner = (SELECT id FROM workers ORDER BY started_at DESC LIMIT 1 OFFSET 1)"
    )
    world.clock.advance(70)
    mike.service.background.workers.beat(0.0)
    assert stuck(world) == []
    world.clock.advance(70)  # mike died, and with it the lease, less than a minute ago
    anna.service.background.workers.beat(0.0)
    assert stuck(world) == []
    world.clock.advance(20)
    anna.service.background.workers.beat(0.0)
    assert kinds(world) == ["dead_lease"]


def test_a_divergence_is_stuck_at_once_and_doubt_when_it_could_be_over(world: World) -> None:
    mike = world.worker(AGENTS)
    for user in ("+13125550001", "+13125550002"):
        world.simulator.inject("dropped")
        mike.receive(world.envelope("hello", user=user))
    world.database.run("UPDATE channel_users SET due_at = service_now() + interval '1 h'")
    world.database.run(
        "UPDATE channel_users SET diverged_at = service_now() WHERE right(address, 1) = '1'"
    )
    assert kinds(world) == ["diverged"]
    world.clock.advance(235)
    mike.service.background.workers.beat(0.0)
    assert kinds(world) == ["diverged"]
    world.clock.advance(10)
    mike.service.background.workers.beat(0.0)
    assert kinds(world) == ["diverged", "doubt"]
    world.database.run(
        "INSERT INTO erasures (channel_user_id, requested_at) SELECT id, service_now() -"
        " interval '2 min' FROM channel_users WHERE diverged_at IS NOT NULL"
    )
    assert kinds(world) == ["erasing", "doubt"]


def test_a_gate_an_inbox_and_a_missing_agent_are_stuck_when_something_waits(world: World) -> None:
    mike = world.worker(AGENTS + "[agents.default]\n[agents.gone]\n")
    world.simulator.inject("429", retry_after_s=500)
    mike.receive(world.envelope("hello"))
    assert stuck(world) == []
    mike.accept_only(world.envelope("hello", agent="gone", user="+13125550002"))
    world.database.run("INSERT INTO inbox (envelope) VALUES ('{}')")
    world.database.run("UPDATE channel_users SET due_at = service_now() + interval '1 h'")
    world.clock.advance(70)
    mike.service.background.workers.beat(65.0)
    assert kinds(world) == ["stalled_worker", "inbox", "gate", "no_agent"]


def test_a_reply_that_nobody_hands_over_and_a_person_without_a_due_time_are_stuck(
    world: World,
) -> None:
    mike = world.worker(AGENTS)
    message = mike.receive(world.envelope("hello", channel="out"))
    mike.accept_only(world.envelope("hello"))
    world.database.run("UPDATE channel_users SET due_at = NULL")
    world.clock.advance(70)
    mike.service.background.workers.beat(0.0)
    assert message is not None
    found = {one["kind"]: one["command"] for one in stuck(world)}
    assert found["delivery"] == f"worker why {message.id}"
    assert set(found) == {"delivery", "stranded"}


def test_status_shows_how_old_what_waits_is_and_who_stalls(world: World) -> None:
    mike = world.worker(AGENTS)
    mike.receive(world.envelope("hello", channel="out"))
    world.database.run("INSERT INTO inbox (envelope) VALUES ('{}')")
    world.clock.advance(70)
    mike.service.background.workers.beat(5.0)
    said = run(world, "--json", command="status")
    ages = json.loads(said.stdout)["ages"]
    assert (ages["inbox"], ages["stalled_workers"]) == (1, 1)
    assert min(ages["oldest_inbox_s"], ages["oldest_undelivered_s"]) > 69
    assert "1 worker(s) take nothing" in said.stderr
    assert "oldest undelivered" in run(world, command="status").stdout
