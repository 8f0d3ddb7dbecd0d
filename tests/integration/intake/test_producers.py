"""Producers in any language, as the examples show them, before real workers.

One expectation for all of them: the same row, the same reply, and sent again it changes nothing.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from celery import signature
from redis import Redis

from message_worker_client import Producer, wait_for_reply
from tests.support.databases import ROOT
from tests.support.fleet import Ground, agents_file, fresh_ground
from tests.support.programs import are_installed
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import Script, SimulatorConfig

EXAMPLES = ROOT / "examples"
USER = "visitor-1"
TEXT = 'Grüße! "What" is \\ wrong? 🙂'
REPLY = "It's fixed."
WEBHOOK = """
import json, sys
from fastapi import HTTPException
from webhook_fastapi import inbound
for event in json.load(sys.stdin):
    try:
        inbound(event)
        print(202)
    except HTTPException as error:
        print(error.status_code)
"""
FASTAPI = """
class FastAPI:
    def post(self, path, status_code):
        return lambda function: function

class HTTPException(Exception):
    def __init__(self, status_code, detail):
        self.status_code = status_code
"""
"""As much of it as the example uses: FastAPI itself is no package of this project."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a producer sends to."""

    broker_url: str
    database_url: str
    folder: Path
    """For what an example needs beside itself."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("producers")
    (made / "fastapi.py").write_text(FASTAPI)
    return made


@pytest.fixture(scope="module")
def ground(shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis) -> Iterator[Ground]:
    """Two workers on a Redis database that other tests leave alone."""
    broker_url = shared_redis.url_of(1)
    with fresh_ground(
        shared_postgres,
        broker_url=broker_url,
        agents=agents_file(),
        simulated=SimulatorConfig(list_visible_after_s=0, show_prefix=False),
    ) as ground:
        ground.simulator.script(Script(text=TEXT, reply=REPLY, count=None))
        ground.fleet.start(2)
        yield ground


@pytest.fixture
def place(ground: Ground, folder: Path) -> Place:
    fleet = ground.fleet
    return Place(broker_url=fleet.broker_url, database_url=fleet.database_url, folder=folder)


@pytest.fixture
def refusing(shared_redis: EmbeddedRedis, database_url: str, folder: Path) -> Place:
    """A Redis that takes no message."""
    url = shared_redis.url_of(2)
    with Redis.from_url(url) as redis:
        redis.set("inbound", "not a list")
    return Place(broker_url=url, database_url=database_url, folder=folder)


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


def fields(message_id: str) -> dict[str, str]:
    return {"channel": "web", "user": USER, "message_id": message_id, "text": TEXT}


def as_json(message_id: str) -> str:
    return json.dumps({"version": 1} | fields(message_id), ensure_ascii=False)


# --- the ways: each sends TEXT and gives the message_id that it went under ------------------------


def by_client(place: Place, message_id: str) -> str:
    with Producer(broker_url=place.broker_url) as producer:
        return producer.send(**fields(message_id)).message_id


def by_client_and_sql(place: Place, message_id: str) -> str:
    with Producer(database_url=place.database_url) as producer:
        return producer.send(**fields(message_id)).message_id


def by_celery(place: Place, message_id: str) -> str:
    program = EXAMPLES / "send_message.py"
    return run(sys.executable, program, TEXT, BROKER_URL=place.broker_url).strip()


def by_shell(place: Place, message_id: str) -> str:
    said = as_json(message_id)
    run("sh", EXAMPLES / "send_message.sh", said=said, BROKER_URL=place.broker_url)
    return message_id


def by_webhook(place: Place, message_id: str) -> str:
    assert webhook(place, {"from": USER, "id": message_id, "text": TEXT}) == ["202"]
    return message_id


def webhook(place: Place, *events: dict[str, str]) -> list[str]:
    """The statuses with which the example answers its channel."""
    paths = os.pathsep.join(map(str, (place.folder, EXAMPLES, ROOT)))
    environment = {"PYTHONPATH": paths, "BROKER_URL": place.broker_url}
    return run(sys.executable, "-c", WEBHOOK, said=json.dumps(events), **environment).split()


def by_psql(place: Place, message_id: str) -> str:
    url = place.database_url
    told = run("sh", EXAMPLES / "send_message_sql.sh", said=as_json(message_id), DATABASE_URL=url)
    assert told.strip().isdecimal()
    return message_id


def by_node(place: Place, message_id: str) -> str:
    node = node_folder(place)
    told = run(
        *("node", node / "send_message.js", TEXT),
        BROKER_URL=place.broker_url,
        MESSAGE_ID=message_id,
    )
    return told.strip()


def node_folder(place: Place) -> Path:
    """The Node.js example with its packages, as its reader gets it."""
    node = place.folder / "node"
    if not node.exists():
        node.mkdir()
        for name in ("package.json", "package-lock.json", "send_message.js"):
            shutil.copy(EXAMPLES / "node" / name, node)
        options = ["--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts"]
        subprocess.run(["npm", "ci", *options], cwd=node, check=True, timeout=100)
    return node


# What is not on this machine is no way here: its tests are not even collected.
HAS_PSQL = are_installed("psql")
HAS_NODE = are_installed("node", "npm")
WAYS: dict[str, Callable[[Place, str], str]] = {
    "client": by_client,
    "client-sql": by_client_and_sql,
    "celery": by_celery,
    "redis-cli": by_shell,
    "fastapi": by_webhook,
    **({"psql": by_psql} if HAS_PSQL else {}),
    **({"node": by_node} if HAS_NODE else {}),
}
SAME_BYTES = [WAYS[name] for name in ("client", "client-sql", "redis-cli", "psql") if name in WAYS]
"""These send exactly `fields`; Celery's and Node.js's examples add when it was sent."""

ROWS = """
SELECT o.channel, o.user, m.envelope - 'sent_at' AS envelope, m.agent, m.conflicts,
    o.outcome, o.text, o.source, o.delivery
FROM messages m JOIN message_outcomes o ON o.message = m.id WHERE m.message_id = %s
"""


def expected(message_id: str) -> dict[str, object]:
    return {
        "channel": "web",
        "user": USER,
        "envelope": {"version": 1} | fields(message_id),
        "agent": "default",
        "conflicts": 0,
        "outcome": "answered",
        "text": REPLY,
        "source": "call",
        "delivery": "sent",
    }


def repeats(ground: Ground) -> int:
    """How often a worker has said that a message was there already, with the same body."""
    return sum(worker.output().count('"message.repeated"') for worker in ground.fleet.workers)


@pytest.mark.parametrize("name", WAYS)
def test_every_producer_ends_in_the_same_row_and_the_same_reply(
    ground: Ground, place: Place, name: str
) -> None:
    message_id = WAYS[name](place, f"m-{name}")
    ended = wait_for_reply(
        place.database_url, channel="web", user=USER, message_id=message_id, timeout_s=30
    )
    assert ended is not None, ground.fleet.report()
    assert ground.database.rows(ROWS, message_id) == [expected(message_id)]

    repeated = repeats(ground)
    sent = "SELECT envelope FROM messages WHERE message_id = %s"
    with Producer(broker_url=place.broker_url) as producer:
        producer.send_many([ground.database.value(sent, message_id)])
    ground.fleet.wait_for(lambda: repeats(ground) == repeated + 1)
    assert ground.database.rows(ROWS, message_id) == [expected(message_id)]
    assert ground.database.value("SELECT count(*) FROM dead_letters") == 0


def test_a_hundred_copies_by_all_ways_at_once_are_one_message_and_one_reply(
    ground: Ground, place: Place
) -> None:
    start = threading.Barrier(100)
    # Programs are slow to start, so most copies come from this process.
    senders = [
        SAME_BYTES[number % (2 if number < 84 else len(SAME_BYTES))] for number in range(100)
    ]

    def send(by: Callable[[Place, str], str]) -> None:
        start.wait(30)
        by(place, "m-copies")

    said, repeated = len(ground.said(USER)), repeats(ground)
    with ThreadPoolExecutor(100) as pool:
        list(pool.map(send, senders))
    ground.fleet.wait_for(lambda: repeats(ground) == repeated + 99)
    with Producer(database_url=place.database_url) as producer:
        producer.send(**fields("m-copies") | {"text": "other words"})
    conflicts = "SELECT conflicts FROM messages WHERE message_id = 'm-copies'"
    ground.fleet.wait_for(lambda: ground.database.value(conflicts) == 1)
    wait_for_reply(place.database_url, channel="web", user=USER, message_id="m-copies")
    rows = ground.database.rows(ROWS, "m-copies")
    assert rows == [expected("m-copies") | {"conflicts": 1}]
    assert ground.said(USER)[said:] == [TEXT]


def test_the_webhook_tells_its_channel_whether_to_call_again(refusing: Place) -> None:
    event = {"from": USER, "id": "m-1", "text": TEXT}
    bad = ({"from": USER}, event | {"text": ""})
    assert webhook(refusing, event, *bad) == ["503", "422", "422"]


def test_the_example_for_the_shell_fails_when_redis_refuses_or_is_away(refusing: Place) -> None:
    for url in (refusing.broker_url, "redis://127.0.0.1:1"):
        with pytest.raises(AssertionError, match="not confirmed"):
            run("sh", EXAMPLES / "send_message.sh", said=as_json("m-1"), BROKER_URL=url)


if HAS_PSQL:

    def test_the_example_for_psql_fails_and_quotes_nothing(database_url: str) -> None:
        url = database_url
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


if HAS_NODE:

    def test_the_example_for_node_fails_when_redis_refuses(refusing: Place) -> None:
        with pytest.raises(AssertionError, match="not confirmed"):
            run("node", node_folder(refusing) / "send_message.js", BROKER_URL=refusing.broker_url)


# --- what Celery offers a producer beside the envelope --------------------------------------------


def test_countdown_expires_and_link_of_celery_are_kept_or_said_not_to_be(ground: Ground) -> None:
    def send(message_id: str, **options: object) -> None:
        envelope = json.loads(as_json(message_id))
        kwargs = {"envelope": envelope | {"user": f"celery-{message_id}"}}
        ground.fleet.producer.send_task("messages.receive", (), kwargs, queue="inbound", **options)

    def outcome(message_id: str) -> str | None:
        said: str | None = ground.database.value(
            "SELECT coalesce((SELECT outcome FROM messages WHERE message_id = %s),"
            " (SELECT 'held' FROM inbox WHERE envelope->>'message_id' = %s"
            "   AND not_before > now() + interval '50 minutes' AND expires_at IS NOT NULL))",
            message_id,
            message_id,
        )
        return said

    send("in-an-hour", countdown=3600, expires=7200)
    send("too-late", expires=datetime(2001, 1, 1, tzinfo=UTC))
    send("soon", countdown=1)
    send("linked", link=signature("shop.note"), chain=[signature("shop.next")])
    expected = {"in-an-hour": "held", "too-late": "expired", "soon": "answered"}
    expected["linked"] = "answered"
    ground.fleet.wait_for(lambda: {one: outcome(one) for one in expected} == expected)
    lines = "".join(one.output() for one in ground.fleet.running())
    assert "entry.ignored" in lines
