"""Workers on a real RabbitMQ, where `rabbitmq-server` is on PATH; elsewhere no tests.

One worker for all of them, behind a proxy; it has to outlive everything but being killed.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Connection, Queue

from message_worker_client import Producer, ProducerError
from tests.support.fleet import Ground, agents_file, fresh_ground
from tests.support.intake_worker import CANARY, assert_tells_nothing
from tests.support.processes import open_folder
from tests.support.programs import are_installed
from tests.support.rabbitmq import running_rabbitmq
from tests.support.tcp_proxy import Mode, TcpProxy
from worker.cli.doctor.doctor import CHECKS
from worker.cli.doctor.examine import Setup, examine
from worker.config.agents_file import load_agents
from worker.config.settings import NOWHERE, Settings
from worker.queue.misplaced import misplaced_entries
from worker.queue.waiting import waiting_entries
from worker.sandbox.postgres import EmbeddedPostgres

__test__ = are_installed(
    "rabbitmq-server"
)  # else pytest would report tests that have nothing to test with

AGENTS = """
[channels.push.delivery]
task = "replies.store"
queue = "of_the_producer"
"""
NOT_TEXT = b"\xff CANARY-b7e1"


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with open_folder() as folder, running_rabbitmq(folder) as url:
        yield url


@pytest.fixture(scope="module")
def proxy(broker: str) -> Iterator[TcpProxy]:
    """Stands between the worker and RabbitMQ; producers go straight."""
    with TcpProxy(("127.0.0.1", urlsplit(broker).port or 0)) as made:
        yield made


@pytest.fixture(scope="module")
def ground(shared_postgres: EmbeddedPostgres, broker: str, proxy: TcpProxy) -> Iterator[Ground]:
    agents = agents_file(3.0, AGENTS)
    with fresh_ground(shared_postgres, broker_url=broker, agents=agents) as ground:
        ground.fleet.start(BROKER_URL=f"amqp://guest:guest@127.0.0.1:{proxy.port}//")
        yield ground


def publish(broker: str, body: bytes, **options: Any) -> None:  # noqa: ANN401 - kombu's
    """Publish to `inbound` what is a good call but for what the options say."""
    headers = {"task": "messages.receive", "id": str(uuid4())} | options.pop("headers", {})
    given = {"content_type": "application/json", "content_encoding": "utf-8"} | options
    with Connection(broker) as connection:
        connection.Producer().publish(body, routing_key="inbound", headers=headers, **given)


def nested(levels: int) -> dict[str, Any]:
    return {CANARY: nested(levels - 1)} if levels else {}


CALL = json.dumps([[], {"envelope": CANARY}, {}]).encode()
NOT_CALLS: list[tuple[str, bytes, dict[str, Any]]] = [
    ("body_not_json", b"", {}),
    ("body_not_json", f"Hello {CANARY}".encode(), {}),
    ("body_encoding", f"Gr\u00fc\u00dfe {CANARY}".encode("latin-1"), {}),
    ("body_not_triple", json.dumps({"envelope": CANARY}).encode(), {}),
    ("bad_arguments", json.dumps([[], {CANARY: 1}, {}]).encode(), {}),
    ("bad_arguments", json.dumps([CANARY, {}, {}]).encode(), {}),
    ("not_storable", json.dumps([[], {"envelope": f"{CANARY}\0"}, {}]).encode(), {}),
    ("not_storable", json.dumps([[], {"envelope": f"{CANARY}\ud800"}, {}]).encode(), {}),
    ("too_deep", b"[" * 5000 + b"]" * 5000, {}),
    ("too_large", CALL + b" " * 1024 * 1024, {}),
    ("unknown_task", CALL, {"headers": {"task": CANARY}}),
    ("wrong_queue", b"[[1], {}, {}]", {"headers": {"task": "channel_users.answer"}}),
    ("bad_headers", CALL, {"headers": {"id": 7}}),
    ("protocol_1", json.dumps({"task": CANARY}).encode(), {"headers": {"task": None}}),
    ("compressed", CALL, {"headers": {"compression": CANARY}}),
    ("content_type", CALL, {"content_type": f"application/{CANARY}"}),
    ("content_type", CALL, {"content_encoding": CANARY}),
    ("content_type", CALL, {"content_type": NOT_TEXT}),
    ("content_type", CALL, {"correlation_id": NOT_TEXT}),
    ("too_deep", CALL, {"headers": {CANARY: nested(200)}}),
    ("bad_headers", CALL, {"headers": {NOT_TEXT: 1}}),
    ("envelope_invalid", CALL, {}),
]


def test_a_queue_that_nobody_consumes_is_found(broker: str) -> None:
    assert misplaced_entries(broker) == {}
    with Celery(broker=broker, set_as_current=False) as producer:
        producer.send_task("messages.receive", kwargs={"envelope": CANARY})
        assert misplaced_entries(broker) == {"celery": 1}
        assert producer.control.purge() == 1


def test_what_is_no_valid_call_is_kept_with_its_bytes_and_not_logged(
    ground: Ground, broker: str
) -> None:
    for _, body, options in NOT_CALLS:
        publish(broker, body, **options)
    letters = "SELECT reason, raw FROM dead_letters ORDER BY id"
    ground.fleet.wait_for(lambda: len(ground.database.rows(letters)) >= len(NOT_CALLS))
    kept = [(row["reason"], bytes(row["raw"])) for row in ground.database.rows(letters)]
    bodies = [
        (reason, raw if reason == "envelope_invalid" else base64.b64decode(json.loads(raw)["body"]))
        for reason, raw in kept
    ]
    assert sorted(bodies) == sorted((reason, body) for reason, body, _ in NOT_CALLS)
    assert sum(waiting_entries(broker, ["inbound"]).values()) == 0
    (worker,) = ground.fleet.running()
    assert_tells_nothing(worker.output())


def test_a_large_body_leaves_its_head_length_and_hash(ground: Ground, broker: str) -> None:
    body = CALL + b" " * 8 * 1024 * 1024
    publish(broker, body)
    letters = "SELECT detail, raw FROM dead_letters WHERE detail LIKE '%% sha256 %%'"
    ground.fleet.wait_for(lambda: len(ground.database.rows(letters)) == 1)
    (letter,) = ground.database.rows(letters)
    digest = hashlib.sha256(body).hexdigest()
    assert letter["detail"] == f"{len(body)} bytes, sha256 {digest}; the first 65536 are kept"
    assert bytes(letter["raw"]) == body[:65536]
    ground.fleet.wait_for(lambda: sum(waiting_entries(broker, ["inbound"]).values()) == 0)


def test_remote_control_asks_and_changes_nothing(ground: Ground, broker: str) -> None:
    (worker,) = ground.fleet.running()
    user = ground.user()
    with Celery("another app", broker=broker, set_as_current=False) as app:
        app.conf.control_exchange = "worker"
        app.control.revoke("x")
        app.control.broadcast("cancel_consumer", arguments={"queue": "inbound"})
        app.control.shutdown()
        (answer,) = app.control.ping(timeout=5, limit=1)
        assert list(answer.values()) == [{"ok": "pong"}]
        (stats,) = app.control.inspect(timeout=5, limit=1).stats().values()
        assert stats["pid"] == worker.pid
    send(broker, ground.envelope("hello", user=user))
    ground.wait_until_final(user, messages=1)
    assert worker.output().count("control_message.dropped") == 3


def test_a_message_of_any_producer_is_answered_once(ground: Ground, broker: str) -> None:
    user = ground.user()
    envelope = ground.envelope("hello", user=user)
    send(broker, envelope, envelope)
    with Celery("somebody", broker=broker, set_as_current=False) as app:
        call = {"kwargs": {"envelope": envelope}, "queue": Queue("inbound", no_declare=True)}
        app.send_task("messages.receive", **call, task_id="1", countdown=3600)
        app.send_task("messages.receive", **call, task_id="1", expires=-1)
    ground.wait_until_final(user, messages=1)
    assert ground.said(user) == ["hello"]


def send(broker: str, *envelopes: dict[str, object]) -> None:
    with Producer(broker_url=broker) as producer:
        producer.send_many(envelopes)


@pytest.mark.parametrize("how", ["reset", pytest.param("silent", marks=pytest.mark.slow)])
def test_a_lost_connection_in_mid_turn_loses_and_doubles_nothing(
    ground: Ground, proxy: TcpProxy, broker: str, how: str
) -> None:
    users, connections = [ground.user() for _ in range(4)], proxy.accepted
    ground.simulator.reconfigure(latency_s=1.0)
    send(broker, *(ground.envelope("hello", user=user) for user in users[:3]))
    ground.fleet.wait_for(lambda: len(ground.outcomes(*users)) == 3)
    if how == "reset":
        proxy.reset_all()
    else:
        proxy.mode = Mode.BLACK_HOLE
    ground.fleet.wait_for(lambda: proxy.accepted > connections + 1)
    proxy.mode = Mode.PASS
    send(broker, ground.envelope("hello", user=users[3]))
    ground.wait_until_final(*users, messages=4)
    assert [ground.said(user) for user in users] == [["hello"]] * 4
    assert [len(ground.sources(user)) for user in users] == [1] * 4
    assert ground.fleet.running() == ground.fleet.workers
    ground.simulator.reconfigure(latency_s=0.0)


def test_what_a_killed_worker_had_taken_goes_to_the_next(ground: Ground, broker: str) -> None:
    users = [ground.user() for _ in range(30)]
    ground.fleet.running()[0].freeze()
    send(broker, *(ground.envelope("hello", user=user) for user in users))
    ground.fleet.wait_for(lambda: sum(waiting_entries(broker, ["inbound"]).values()) < len(users))
    ground.fleet.running()[0].kill()
    ground.fleet.start()
    ground.wait_until_final(*users, messages=len(users))
    assert [ground.said(user) for user in users] == [["hello"]] * len(users)


def test_a_reply_goes_to_the_producer_s_own_queue_once_he_has_one(
    ground: Ground, broker: str
) -> None:
    send(broker, ground.envelope("hello", user=ground.user(), channel="push"))
    (worker,) = ground.fleet.running()
    unclear = re.compile(r'"state": "sending".*"event": "delivery\.ended"')
    ground.fleet.wait_for(lambda: unclear.search(worker.output()) is not None)
    ground.database.run("UPDATE deliveries SET due_at = service_now() WHERE state = 'sending'")
    got: list[Any] = []
    with Connection(broker) as connection:
        queue = Queue("of_the_producer", durable=False, max_length=9)  # as nobody else declares it
        with connection.Consumer([queue], on_message=got.append, no_ack=True):
            while not got:
                connection.drain_events(timeout=60)
    assert got[0].headers["task"] == "replies.store"
    assert got[0].payload[1]["reply"]["message_ids"]


def test_doctor_and_worker_say_what_works_without_redis(
    ground: Ground, broker: str, tmp_path: Path
) -> None:
    agents = tmp_path / "agents.toml"
    agents.write_text("[agents.default]\nstream = true\n")
    settings = Settings(**NOWHERE | {"broker_url": broker, "agents_file": agents})
    routing, timing = load_agents(agents)
    setup = Setup(settings=settings, wrong={}, routing=routing, timing=timing)
    checks = [check for check in CHECKS if check.group == "broker"]
    found = [line.found for line in examine(checks, setup)]
    assert found[0].startswith("RabbitMQ ")
    assert found[1:4] == ["not checked (RabbitMQ)", "none (RabbitMQ)", "quorum queues"]
    assert any("takes Redis" in line for line in found)
    (worker,) = ground.fleet.start(AGENTS_FILE=str(agents))
    assert "live.needs_redis" in worker.output()
    worker.kill()


def test_a_producer_hears_when_there_is_no_queue_until_a_worker_declares_it(
    broker: str, ground: Ground
) -> None:
    user, (worker,) = ground.user(), ground.fleet.running()
    first, second = (ground.envelope("hello", user=user) for _ in range(2))

    def is_sent(envelope: dict[str, object]) -> bool:
        with suppress(ProducerError):
            send(broker, envelope)
            return True
        return False

    assert is_sent(first)
    # In its first read, Celery hides that its consumer was cancelled.
    ground.wait_until_final(user, messages=1)
    worker.freeze()
    with Connection(broker) as connection:
        connection.channel().queue_delete("inbound")
    assert not is_sent(second)
    worker.thaw()
    # The tests before this one may follow it: xdist steals those at the end first.
    ground.fleet.wait_for(lambda: is_sent(second))
    ground.wait_until_final(user, messages=2)
