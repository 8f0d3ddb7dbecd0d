"""Producers in any language, as the examples show them: the same rows, the same reply."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.support.databases import ROOT, libpq_url
from tests.support.world import HandDrivenWorker, World, running_world
from worker.client import Producer
from worker.intake.gate import Gate
from worker.sandbox.simulator.config import SimulatorConfig

EXAMPLES = ROOT / "examples"
TEXT = 'Grüße! "What" is \\ wrong? 🙂'
Send = Callable[[str, str], None]


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    with running_world(database_url, tmp_path, SimulatorConfig(list_visible_after_s=0)) as made:
        yield made


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node.js example with its packages, as its reader gets it."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "send_message.js"):
        shutil.copy(EXAMPLES / "node" / name, folder)
    options = ["--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts"]
    subprocess.run(["npm", "ci", *options], cwd=folder, check=True, timeout=100)
    return folder


def run(*command: str | Path, said: str = "", **environment: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": path, **environment},
        input=said,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_client(url: str, message_id: str) -> None:
    with Producer(broker_url=url) as producer:
        producer.send(channel="web", user="visitor-1", message_id=message_id, text=TEXT)


def by_shell(url: str, message_id: str) -> None:
    envelope = {"version": 1, "channel": "web", "user": "visitor-1", "text": TEXT}
    said = json.dumps(envelope | {"message_id": message_id}, ensure_ascii=False)
    run("sh", EXAMPLES / "send_message.sh", said=said, BROKER_URL=url)


def entries(url: str) -> list[bytes]:
    with Redis.from_url(url) as redis:
        return list(reversed(redis.lrange("inbound", 0, -1)))


class Receive:
    def run(self, envelope: object) -> None: ...


def take_in(worker: HandDrivenWorker, raw: bytes) -> None:
    gate = Gate(
        tasks=lambda: {"messages.receive": Receive()}, accepts={"inbound": {"messages.receive"}}
    )
    _, kwargs, _ = gate.admit(raw, queue="inbound", priority=0).payload
    worker.receive(kwargs["envelope"])


def assert_answered_once_and_the_same_as_by_the_client(world: World, url: str) -> None:
    """Take in what is queued and the same by the client: one message, and no conflict."""
    (first,) = entries(url)
    by_client(url, "m-1")
    mike = world.worker()
    for raw in (first, *entries(url)):
        take_in(mike, raw)
    mike.answer()
    rows = world.database.rows(
        "SELECT message_id, envelope - 'sent_at' AS envelope, outcome FROM messages"
    )
    assert rows == [
        {
            "message_id": "m-1",
            "envelope": {
                "version": 1,
                "channel": "web",
                "user": "visitor-1",
                "message_id": "m-1",
                "text": TEXT,
            },
            "outcome": "answered",
        }
    ]
    assert len(world.replies()) == 1
    assert world.inputs() == [TEXT]


@pytest.mark.parametrize("send", [by_client, by_shell], ids=["client", "redis-cli"])
def test_every_producer_ends_in_the_same_row_and_one_reply(
    world: World, broker_url: str, send: Send
) -> None:
    send(broker_url, "m-1")
    assert_answered_once_and_the_same_as_by_the_client(world, broker_url)
    assert world.database.value("SELECT conflicts FROM messages") == 0


# Only where psql is: elsewhere its test is not even collected.
if shutil.which("psql"):

    def test_the_example_for_psql_ends_in_the_same_row_and_one_reply(
        world: World, database_url: str, broker_url: str
    ) -> None:
        envelope = {"version": 1, "channel": "web", "user": "visitor-1", "text": TEXT}
        said = json.dumps(envelope | {"message_id": "m-1"}, ensure_ascii=False)
        url = libpq_url(database_url)
        told = run("sh", EXAMPLES / "send_message_sql.sh", said=said, DATABASE_URL=url)
        assert told == "1\n"
        assert world.worker().service.background.drain_inbox()
        by_client(broker_url, "m-1")
        assert_answered_once_and_the_same_as_by_the_client(world, broker_url)

    def test_the_example_for_psql_fails_and_quotes_nothing(database_url: str) -> None:
        url = libpq_url(database_url)
        for said in ('{"text": "SECRET"}', "SECRET", ""):
            failed = subprocess.run(
                ["sh", EXAMPLES / "send_message_sql.sh"],
                env=os.environ | {"DATABASE_URL": url},
                input=said,
                capture_output=True,
                text=True,
                check=False,
            )
            assert failed.returncode != 0
            assert failed.stdout == ""
            assert "SECRET" not in failed.stderr


# Only where Node.js is: elsewhere its test is not even collected.
if shutil.which("node") and shutil.which("npm"):

    def test_the_example_for_node_ends_in_the_same_row_and_one_reply(
        world: World, broker_url: str, node_folder: Path
    ) -> None:
        told = run(
            *("node", node_folder / "send_message.js", TEXT),
            BROKER_URL=broker_url,
            MESSAGE_ID="m-1",
        )
        assert told == "m-1\n"
        assert_answered_once_and_the_same_as_by_the_client(world, broker_url)

    def test_the_example_for_node_fails_when_redis_refuses(
        broker_url: str, node_folder: Path
    ) -> None:
        with Redis.from_url(broker_url) as redis:
            redis.set("inbound", "not a list")
        with pytest.raises(AssertionError, match="not confirmed"):
            run("node", node_folder / "send_message.js", BROKER_URL=broker_url)


def test_the_example_for_the_shell_fails_when_redis_refuses_or_is_away(broker_url: str) -> None:
    with Redis.from_url(broker_url) as redis:
        redis.set("inbound", "not a list")
    for url in (broker_url, "redis://127.0.0.1:1"):
        with pytest.raises(AssertionError, match="not confirmed"):
            by_shell(url, "m-1")
