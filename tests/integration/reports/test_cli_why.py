"""`worker why` for each kind of fate, driven through the real handlers in one shared world."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.support.cli import Said, invoke
from tests.support.databases import fresh_database
from tests.support.world import NAMESPACE, HandDrivenWorker, World, running_world
from worker.domain.deliveries import DeliveryOutcome, NotDelivered, OutgoingReply, Sent
from worker.domain.ids import ChannelUserId
from worker.domain.messages import Sender
from worker.queue.unwrap import uuid_of
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator.behaviour.config import SimulatorConfig

QUIET_S = 2 + 75 + 90 + 13
SECRET = "se-cret words"
AGENTS = """
[agents.default]
[agents.limited]
model = "zai-org/GLM-5.3"
[channels.slow]
debounce_s = 30
max_wait_s = 60
[channels.out.delivery]
task = "unused"
queue = "unused"
[routes.desk.delivery]
task = "unused"
queue = "unused"
"""


class Sink:
    """A way out that does as the test has told it."""

    takes_key = True

    def __init__(self) -> None:
        self.outcomes: list[DeliveryOutcome] = []

    def deliver(self, _reply: OutgoingReply) -> DeliveryOutcome:
        return self.outcomes.pop() if self.outcomes else Sent()


class Ground:
    """The world, one worker in it, and a new person for each message."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sink = Sink()
        self.mike: HandDrivenWorker = world.worker(AGENTS, channels={"out": self.sink})
        self._numbers = count(1)

    def envelope(self, **fields: object) -> dict[str, object]:
        user = f"person-{next(self._numbers)}"
        return self.world.envelope(SECRET, **{"user": user, "channel": "web", **fields})  # type: ignore[arg-type]

    def receive(self, **fields: object) -> int:
        accepted = self.mike.receive(self.envelope(**fields))
        assert accepted is not None
        return accepted.id

    def user_of(self, message: int) -> int:
        found: int = self.world.database.value(
            "SELECT channel_user_id FROM messages WHERE id = %s", message
        )
        return found

    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        self.mike.service.background.workers.beat(0.0)
        self.mike.answer()

    def run(self, *arguments: object) -> Said:
        self.mike.service.background.workers.beat(0.0)  # he lives, however slow the machine is
        path = self.world.folder / "agents-of-the-command.toml"
        path.write_text(AGENTS)
        return invoke(
            *map(str, arguments),
            env={
                "DATABASE_URL": self.world.database.url,
                "BROKER_URL": self.world.broker_url,
                "TELNYX_BASE_URL": self.world.simulator.base_url,
                "TELNYX_API_KEY": self.world.simulator.api_key,
                "NAMESPACE": str(NAMESPACE),
                "SANDBOX_DIR": str(self.world.folder / "none"),
                "AGENTS_FILE": str(path),
            },
        )

    def why(self, message: object) -> dict[str, Any]:
        """What `worker why` gives scripts; people get the same, and neither what was written."""
        said = self.run("why", message, "--json")
        assert said.returncode == 0, said.stderr
        found: dict[str, Any] = json.loads(said.stdout)
        shown = self.lines(message)
        assert f"now    {found['where']['what']}" in shown
        for output in (said.stdout, shown):
            assert SECRET not in output
            assert "person-" not in output
        return found

    def lines(self, message: object, *options: str) -> str:
        said = self.run("why", message, *options)
        assert said.returncode == 0, said.stderr
        return said.stdout


@pytest.fixture(scope="module")
def ground(
    shared_postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    folder, config = tmp_path_factory.mktemp("world"), SimulatorConfig(list_visible_after_s=0)
    with (
        fresh_database(shared_postgres) as url,
        running_world(url, folder, config) as world,
    ):
        yield Ground(world)


def test_answered(ground: Ground) -> None:
    message = ground.receive(recipent="+13125550199", sent_at="2026-01-01T02:00:00+02:00")
    told = ground.why(message)
    assert told["where"]["fate"] == "answered"
    assert told["where"]["commands"] == []
    (call,) = told["calls"]
    assert (call["state"], call["status"], call["attempt"]) == ("done", 200, 0)
    assert call["response_id"]
    assert call["input_tokens"] > 0
    assert told["reply"]["source"] == "call"
    assert told["unknown_fields"] == [{"name": "recipent", "meant": "recipient"}]
    assert told["envelope"] == {"sent_at": "2026-01-01T00:00:00+00:00", "text_bytes": len(SECRET)}

    shown = ground.lines(message)
    assert "recipent: is recipient meant?" in shown
    assert "attempt 1 intended" in shown
    assert f"response {call['response_id']}" in shown
    assert SECRET in ground.lines(message, "--text")


def test_waiting_for_debounce(ground: Ground) -> None:
    told = ground.why(ground.receive(channel="slow"))
    assert told["where"]["fate"] == "debounce"
    assert told["where"]["until"] > told["now"]
    assert told["where"]["then"] == "its turn opens and Telnyx is asked"
    assert told["turn"] is None


def test_waiting_after_429(ground: Ground) -> None:
    ground.world.simulator.inject("429", retry_after_s=20)
    message = ground.receive(agent="limited")
    told = ground.why(message)
    assert told["where"]["fate"] == "gate"
    assert "because Telnyx answered 429" in told["where"]["what"]
    assert "gate model:zai-org/GLM-5.3" in told["where"]["what"]
    assert told["where"]["until"] == told["gates"][0]["closed_until"] > told["now"]
    assert told["calls"][0]["fault"] == "rate"
    assert ", in " in ground.lines(message).splitlines()[1]
    ground.wait(30)
    assert ground.why(message)["where"]["fate"] == "answered"


def test_dead(ground: Ground) -> None:
    ground.world.simulator.inject("400", count=2)
    message = ground.receive()
    assert ground.why(message)["where"]["fate"] == "retry"
    ground.wait(16)
    ground.wait(16)
    told = ground.why(message)
    assert told["where"]["fate"] == "dead"
    assert "refused" in told["where"]["what"]
    (letter,) = told["dead_letters"]
    assert told["where"]["commands"] == [f"worker dead-letters replay {letter['id']}"]

    assert ground.run(*told["where"]["commands"][0].split()[1:]).returncode == 0
    assert ground.why(message)["where"]["fate"] == "worker"
    ground.mike.answer()
    assert ground.why(message)["where"]["fate"] == "answered"


def test_expired(ground: Ground) -> None:
    message = ground.receive(expires_at="2026-01-01T00:00:00Z")
    told = ground.why(message)
    assert told["where"]["fate"] == "expired"
    assert told["where"]["since"].startswith("2026-01-01")
    assert told["message"]["state"] == "expired"


def test_paused(ground: Ground) -> None:
    user = ground.user_of(ground.receive(channel="slow", user="person-p"))
    assert ground.run("pause", user).returncode == 0
    second = ground.receive(channel="slow", user="person-p")
    told = ground.why(second)
    assert told["where"]["fate"] == "paused"
    assert told["where"]["since"] == told["user"]["paused_at"]
    assert f"worker resume {user}" in told["where"]["commands"]
    ground.wait(31)
    assert ground.why(second)["where"]["fate"] == "human"


def test_in_doubt_and_then_diverged(ground: Ground) -> None:
    ground.receive(user="person-d")
    simulator = ground.world.simulator
    simulator.append_foreign_message(simulator.conversations()[-1].id, "a stranger's words")
    simulator.inject("dropped")
    message = ground.receive(user="person-d")
    told = ground.why(message)
    assert told["where"]["fate"] == "look_back"
    assert "not before" in told["where"]["then"]

    ground.wait(QUIET_S + 1)
    later = ground.receive(user="person-d")
    for one in (message, later):
        told = ground.why(one)
        assert told["where"]["fate"] == "diverged"
        assert f"worker conversations reset {told['user']['id']}" in told["where"]["commands"]
        assert [event["event"] for event in told["events"]] == ["diverged"]


def test_withheld(ground: Ground) -> None:
    ground.sink.outcomes = [NotDelivered(reason="busy")]
    message = ground.receive(channel="out", user="person-w")
    ground.mike.deliver()
    assert ground.run("pause", ground.user_of(message)).returncode == 0
    assert "withheld" in ground.why(message)["where"]["then"]
    ground.world.clock.advance(6)
    ground.mike.service.deliver(ChannelUserId(ground.user_of(message)))
    told = ground.why(message)
    assert told["where"]["fate"] == "withheld"
    assert told["where"]["commands"] == [f'worker say {told["user"]["id"]} "TEXT"']


def test_being_delivered(ground: Ground) -> None:
    ground.sink.outcomes = [NotDelivered(reason="busy")]
    message = ground.receive(channel="out", user="person-o")
    ground.mike.deliver()
    told = ground.why(message)
    assert told["where"]["fate"] == "delivering"
    assert "attempt 1 did not succeed (busy)" in told["where"]["what"]
    assert told["where"]["until"] == told["delivery"]["due_at"] > told["now"]
    behind = ground.receive(channel="out", user="person-o")
    assert "1 earlier replies" in ground.why(behind)["where"]["what"]
    ground.world.clock.advance(6)
    ground.mike.service.deliver(ChannelUserId(ground.user_of(message)))
    assert ground.why(message)["where"]["fate"] == "answered"


def test_behind_somebody_who_waits_behind_a_gate(ground: Ground) -> None:
    ground.world.database.run(
        "INSERT INTO gates (name, reason, closed_until)"
        " VALUES ('agent:limited', 'x', service_now() + interval '30 s')"
    )
    ground.receive(channel="slow", user="person-g", agent="limited")
    told = ground.why(ground.receive(channel="slow", user="person-g"))
    assert told["where"]["fate"] == "gate"
    assert "gate agent:limited" in told["where"]["what"]
    assert told["where"]["then"].startswith("1 earlier messages go first")
    ground.world.database.run("DELETE FROM gates WHERE name = 'agent:limited'")


def test_behind_the_closed_gate_of_its_route(ground: Ground) -> None:
    message = ground.receive(channel="out", reply_to="desk")
    ground.world.database.run(
        "INSERT INTO gates (name, reason, closed_until)"
        " VALUES ('webhook:route:desk', 'status 500', service_now() + interval '30 s')"
    )
    told = ground.why(message)
    assert "gate webhook:route:desk is closed: status 500" in told["where"]["what"]
    ground.world.database.run("DELETE FROM gates WHERE name = 'webhook:route:desk'")


def test_an_unknown_id_is_looked_for_where_it_was_not_accepted(ground: Ground) -> None:
    said = ground.run("why", "4711-unknown")
    assert said.returncode == 1
    assert "no accepted message has this id" in said.stderr

    ground.mike.receive(ground.envelope(message_id="refused-1", version=2))
    said = ground.run("why", "web:person:refused-1")
    assert said.returncode == 1
    assert "envelope_version, version: this service reads 1" in said.stderr
    ground.world.database.run(
        "INSERT INTO inbox (envelope) VALUES (%s)", json.dumps(ground.envelope(message_id="in-1"))
    )
    assert "no worker has accepted it yet" in ground.run("why", "in-1").stderr
    found = json.loads(ground.run("why", "in-1", "--json").stdout)
    assert (len(found["inbox"]), found["dead_letters"]) == (1, [])
    assert SECRET not in ground.run("why", "refused-1", "--json").stdout


def test_the_id_of_a_task_finds_its_message_or_its_dead_letter(ground: Ground) -> None:
    task, other = "0e4a4be5-8d3c-4f2e-9d38-52a0f0a2f7c1", "order/4711 of Mike"
    for asked, fields in ((task, {}), (other, {"agent": "nobody"})):
        sender = Sender(task_id=uuid_of(asked), headers={"origin": "gen7@shop-1"})
        envelope = ground.envelope(**fields)
        ground.mike.service.receive(envelope, raw=lambda: b"[]", queue="inbound", sender=sender)
    found = json.loads(ground.run("why", task, "--json").stdout)
    assert found["message"]["state"] == "answered"
    said = ground.run("why", other)
    assert said.returncode == 1
    assert "unknown_agent, agent: the configuration has none of that name" in said.stderr
    assert "no accepted message has this id" in ground.run("why", task[:-1] + "0").stderr
    held = ground.envelope(not_before="2999-01-01T00:00:00Z")
    sender = Sender(task_id=task[:-1] + "2")
    ground.mike.service.receive(held, raw=lambda: b"[]", queue="inbound", sender=sender)
    assert "of inbox has it" in ground.run("why", task[:-1] + "2").stderr


def test_a_message_is_named_by_number_by_its_channels_id_or_with_its_person(ground: Ground) -> None:
    message = ground.receive(channel="slow", user="sip:person-7", message_id="<a:b@c>")
    for name in (message, "<a:b@c>", "slow:sip:person-7:<a:b@c>"):
        assert json.loads(ground.run("why", name, "--json").stdout)["message"]["id"] == message
    other = ground.receive(channel="slow", message_id="<a:b@c>")
    said = ground.run("why", "<a:b@c>")
    assert said.returncode == 1
    assert f"choose one of {message} (slow, user " in said.stderr
    assert f", {other} (slow" in said.stderr


def test_what_comes_while_a_turn_is_open_waits_behind_it(ground: Ground) -> None:
    ground.world.simulator.inject("dropped")
    ground.receive(user="person-b")
    told = ground.why(ground.receive(user="person-b"))
    assert told["where"]["fate"] == "behind"
    assert "of the same channel user comes first" in told["where"]["what"]
    assert told["turn_is_before_it"]
    ground.wait(QUIET_S + 1)


def test_a_lease_of_a_worker_that_died_holds_nobody(ground: Ground) -> None:
    accepted = ground.mike.accept_only(ground.envelope())
    assert accepted is not None
    ground.world.database.run(
        "WITH dead AS (INSERT INTO workers (id, host, pid, alive_until) VALUES"
        " (gen_random_uuid(), 'gone', 7, service_now() - interval '1 s') RETURNING id)"
        " UPDATE channel_users u SET lease_owner = dead.id,"
        " lease_until = service_now() + interval '1 h' FROM dead WHERE u.id = %s",
        accepted.user_id,
    )
    told = ground.why(accepted.id)
    assert told["where"]["what"] == "the next free worker takes it"
    ground.mike.answer()
    assert ground.why(accepted.id)["where"]["fate"] == "answered"
