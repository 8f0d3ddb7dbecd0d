"""SIGHUP makes a worker read its agents file again."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.fleet import Ground, agents_file, fresh_ground
from worker.bootstrap.agents import CurrentAgents
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator import SimulatorConfig
from worker.sandbox.simulator.record.events import RequestReceived

OLD = agents_file(more='instructions = "OLD"')
NEW = agents_file(more='instructions = "NEW"')


@pytest.fixture
def ground(shared_postgres: EmbeddedPostgres, broker_url: str) -> Iterator[Ground]:
    slow = SimulatorConfig(list_visible_after_s=0, latency_s=0.5)
    with fresh_ground(shared_postgres, broker_url=broker_url, agents=OLD, simulated=slow) as made:
        yield made


def instructions_sent(ground: Ground) -> dict[str, object]:
    """Return the instructions of each call, by the text that it answers."""
    calls = [
        entry.event.body
        for entry in ground.simulator.log()
        if isinstance(entry.event, RequestReceived) and entry.event.endpoint == "responses"
    ]
    return {
        text: call["instructions"]
        for call in calls
        for text in ("in flight", "after it", "after a wrong one")
        if text in str(call["input"])
    }


def test_new_messages_get_the_new_file_and_a_call_in_flight_keeps_its_own(ground: Ground) -> None:
    (worker,) = ground.fleet.start()
    file = ground.fleet.folder / "fleet-agents-0.toml"

    def reload(text: str, expected: str) -> None:
        file.write_text(text)
        worker.process.send_signal(signal.SIGHUP)
        ground.fleet.wait_for(lambda: expected in worker.output(), seconds=10)

    users = [ground.user() for _ in range(3)]
    ground.fleet.send(ground.envelope("in flight", user=users[0]))
    ground.wait_for_call("in flight")
    reload(NEW, "agents.reloaded")
    ground.fleet.send(ground.envelope("after it", user=users[1]))
    reload("[agents.default]\ninstruction = 3", "agents.reload_refused")
    ground.fleet.send(ground.envelope("after a wrong one", user=users[2]))
    ground.wait_until_final(*users, messages=3)
    assert ground.outcomes(*users) == ["answered"] * 3
    assert instructions_sent(ground) == {
        "in flight": "OLD",
        "after it": "NEW",
        "after a wrong one": "NEW",
    }
    versions = ground.database.rows("SELECT agent_version FROM turns ORDER BY id")
    assert versions[0] != versions[1] == versions[2]
    # The same process all the time: Celery's own SIGHUP would have started it afresh.
    assert worker.is_running
    assert worker.output().count(f"{worker.name} ready.") == 1


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("[agents.sales]", "the names of [agents]"),
        ("stream = true", "stream"),
        ("call_timeout_s = 90", "the longest call_timeout_s or timeout_s"),
        ('[tools.now]\nfunction = "time:time"\ndescription = "x"', "[tools]"),
        ('[channels.web.delivery]\ntask = "t"\nqueue = "q"', "delivery"),
        (
            'refusals = "told"\n[routes.told.delivery]\ntask = "t"\nqueue = "q"',
            "delivery, refusals",
        ),
        ("[limits]\ncalls_per_second = 3", "[limits]"),
        ("[timing]\nsweep_s = 3", "[timing]"),
    ],
)
def test_what_parts_were_built_from_needs_a_restart(more: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "agents.toml"
    file.write_text("[agents.default]\n")
    agents = CurrentAgents(file)
    before = agents.current()
    top, more = ("", more) if not more.startswith("refusals") else more.split("\n", 1)
    file.write_text(f'{top}\n[agents.default]\ninstructions = "NEW"\n{more}')
    with capture_logs() as logs:
        agents.reload()
    assert [(one["event"], one["error"]) for one in logs] == [
        ("agents.reload_refused", f"restart to change {named}")
    ]
    assert agents.current() is before
