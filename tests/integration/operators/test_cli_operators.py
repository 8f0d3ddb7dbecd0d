"""The commands of people on call, on real servers and a real worker."""

import json
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from tests.support.cli import Said, invoke, invoke_in
from tests.support.fleet import Ground, agents_file, fresh_ground
from tests.support.intake_worker import fixture
from tests.support.world import World
from worker.domain.messages import Sender
from worker.domain.reasons import DeadLetterReason
from worker.queue.gate.entry import RejectedEntry
from worker.sandbox.postgres import EmbeddedPostgres

QUICK_WATCHDOG = "stall_after_s = 2.5\nwatch_s = 0.2\ndrain_s = 1.0\n"


def run(world: World, *arguments: str, **settings: str) -> Said:
    return invoke_in(world, *arguments, **settings)


def test_a_person_is_paused_and_resumed_by_address_or_id(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello", user="+13125550007"))

    assert run(world, "pause", "sms:+13125550007").returncode == 0
    assert world.database.value("SELECT paused_at IS NOT NULL FROM channel_users")
    said = run(world, "resume", "1", "--json")
    assert json.loads(said.stdout) == {"user": 1, "state": "answered again", "telnyx_told": True}
    assert world.database.value("SELECT paused_at IS NULL FROM channel_users")


@pytest.mark.parametrize(
    ("who", "code", "wanted"),
    [
        ("nobody", 2, "by id, or as CHANNEL:ADDRESS"),
        ("sms:+19999999999", 1, "no such"),
        ("4711", 1, "no such"),
    ],
)
def test_a_person_who_is_not_there_is_said_in_one_line(
    world: World, who: str, code: int, wanted: str
) -> None:
    said = run(world, "pause", who)
    assert said.returncode == code
    assert wanted in said.stderr


def test_several_threads_of_one_address_must_be_told_apart(world: World) -> None:
    mike = world.worker()
    for thread in ("a", "b"):
        mike.receive(world.envelope("hello", thread=thread))
    said = run(world, "pause", "sms:+13125550001")
    assert said.returncode == 1
    assert "choose one of 1, 2" in said.stderr


def test_recent_messages_and_users_are_listed_and_searched(world: World) -> None:
    def told(*arguments: str) -> list[object]:
        said = run(world, *arguments, "--json")
        assert said.returncode == 0, said.stderr
        return [one["id"] for one in json.loads(said.stdout)]

    mike = world.worker()
    mike.receive(world.envelope("one"))
    mike.receive(world.envelope("two", thread="b"))
    mike.receive(world.envelope("three\nlines", channel="web", user="anna"))
    run(world, "pause", "web:anna")

    assert told("messages") == [3, 2, 1]
    assert told("messages", "--channel", "sms", "--limit", "1") == [2]
    assert told("messages", "--state", "answered") == [3, 2, 1]
    assert told("messages", "--state", "human") == told("messages", "--since", "2999-01-01") == []
    assert told("messages", "web:anna") == told("messages", "3") == [3]
    assert told("users") == [3, 2, 1]
    assert told("users", "sms:+13125550001") == [2, 1]
    assert told("users", "--state", "paused") == [3]
    assert told("users", "--channel", "sms", "--state", "idle") == [2, 1]
    world.clock.advance(90_000)
    assert told("messages") == told("users") == []
    assert told("messages", "--since", "2020-01-01T00:00:00+01:00") == [3, 2, 1]
    assert told("messages", "web:anna") == told("users", "web:anna") == [3]

    for command in ("messages", "users"):
        said = run(world, command, "3").stdout
        assert "anna" not in said
        assert "three" not in said
    texts = run(world, "messages", "web:anna", "--texts").stdout
    assert texts.startswith("3  3  web  default  answered  answered  ")
    assert texts.endswith("\n    three\n    lines\n")


def test_dead_letters_are_listed_shown_replayed_and_dismissed(world: World) -> None:
    mike = world.worker()
    world.simulator.inject("400", count=2)
    mike.receive(world.envelope("poison"))
    for _ in range(2):  # refused twice, and each time judged settle_s after the call
        world.clock.advance(16)
        mike.service.background.workers.beat(0.0)
        mike.answer()
    mike.receive({"version": 2, "text": "a secret"})

    listed = run(world, "dead-letters", "list", "--json")
    letters = json.loads(listed.stdout)
    assert [one["reason"] for one in letters] == ["refused", "envelope_version"]
    poison, strange = (str(one["id"]) for one in letters)
    assert "secret" not in run(world, "dead-letters", "show", strange).stdout
    assert "a secret" in run(world, "dead-letters", "show", strange, "--raw").stdout

    assert run(world, "dead-letters", "replay", poison).returncode == 0
    again = run(world, "dead-letters", "replay", poison, strange)
    assert again.returncode == 1
    assert "2 of 2 were not replayed" in again.stderr
    mike.answer()
    assert [row["outcome"] for row in world.messages()] == ["answered"]

    assert run(world, "dead-letters", "dismiss", strange).returncode == 0
    assert run(world, "dead-letters", "dismiss", strange).returncode == 1
    assert "no dead letters" in run(world, "dead-letters", "list").stdout
    assert len(json.loads(run(world, "dead-letters", "list", "--all", "--json").stdout)) == 2


def test_dead_letters_with_a_wrong_name_are_replayed_with_the_right_one(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("one", agent="suport"))
    mike.receive(world.envelope("two", agent="suport", user="+13125550002"))
    mike.receive(world.envelope("three", reply_to="dsek", user="+13125550003"))
    mike.receive({"version": 2})
    replay = ("dead-letters", "replay")

    assert run(world, *replay).returncode == run(world, *replay, "1", "--all").returncode == 2
    assert run(world, *replay, "1", "--reason", "unknown_agent").returncode == 2
    assert "agent" in run(world, *replay, "1").stdout
    assert "envelope_version" in run(world, *replay, "4", "--agent", "default").stdout
    assert "--agent" not in run(world, *replay, "3", "--agent", "default").stdout
    done = run(world, *replay, "--all", "--reason", "unknown_agent", "--agent", "default")
    assert (done.returncode, done.stdout) == (0, "1: replayed\n2: replayed\n")
    routes = world.folder / "routes.toml"
    routes.write_text('[routes.desk.delivery]\ntask = "note"\nqueue = "back-office"\n')
    settings = {"AGENTS_FILE": str(routes)}
    assert run(world, *replay, "3", "--reply-to", "desk", **settings).returncode == 0
    mike.answer()
    assert world.inputs() == ["one", "two", "three"]
    left = run(world, *replay, "--all")
    assert (left.returncode, left.stdout.count("\n")) == (1, 1)


def test_a_dead_letter_knows_its_sender(world: World) -> None:
    mike = world.worker()
    entry = json.loads(fixture("good_python"))
    entry["headers"] |= {"task": "messages.recieve", "origin": "gen7@shop-1"}
    task_id = entry["headers"]["id"]
    rejected = RejectedEntry.of(
        json.dumps(entry).encode(), reason=DeadLetterReason.UNKNOWN_TASK, detail="", queue="inbound"
    )
    keep = RejectedEntry.from_args(rejected.as_args())
    mike.service.dead_letters.keep(
        reason=keep.reason, raw=keep.raw, detail="", queue=keep.queue, sender=keep.sender
    )
    sender = Sender(task_id=task_id, headers={"task": "messages.receive", "origin": "gen8@shop-2"})
    with capture_logs() as lines:
        mike.service.receive(
            {**world.envelope("a secret"), "metadata": {"order": 7}},
            raw=lambda: b"[]",
            queue="inbound",
            sender=sender,
        )
    (line,) = (one for one in lines if one["event"] == "envelope.refused")
    assert line["detail"] == "metadata: order: Input should be a valid string"

    by_gate, by_envelope = mike.operator.dead_letters.find()
    assert (str(by_gate.task_id), str(by_envelope.task_id)) == (task_id, task_id)
    shown = run(world, "dead-letters", "show", str(by_gate.id)).stdout
    assert f"task_id      {task_id}" in shown
    assert "origin       gen7@shop-1" in shown
    assert "task         messages.recieve" in shown
    as_json = json.loads(run(world, "dead-letters", "show", str(by_envelope.id), "--json").stdout)
    assert as_json["task_id"] == task_id
    assert as_json["sender"] == {"task": "messages.receive", "origin": "gen8@shop-2"}
    listed = json.loads(run(world, "dead-letters", "list", "--json").stdout)
    assert [one["task_id"] for one in listed] == [task_id, task_id]


@pytest.fixture
def ground(shared_postgres: EmbeddedPostgres, broker_url: str) -> Iterator[Ground]:
    agents = agents_file() + QUICK_WATCHDOG
    with fresh_ground(shared_postgres, broker_url=broker_url, agents=agents) as made:
        yield made


def test_a_worker_that_takes_nothing_is_unhealthy_and_ends_itself(ground: Ground) -> None:
    env = {"DATABASE_URL": ground.fleet.database_url, "SANDBOX_DIR": "/nonexistent"}

    def health(*options: str) -> int:
        return invoke("health", *options, env=env).returncode

    assert health() == 1, "no worker at all"
    # It lives and answers pings, and yet nobody takes what comes in: a stall as it looks outside.
    ground.fleet.options += ("-Q", "turns,deliveries")
    (anna,) = ground.fleet.start(1)
    assert health() == 0
    ground.fleet.send(ground.envelope("hello", user=ground.user()))

    ground.fleet.wait_for(lambda: health("--max-stalled", "0.5") == 1)
    assert anna.wait(20) == 70
    assert "worker.stalled" in anna.output()
