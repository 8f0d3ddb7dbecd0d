"""A producer is told of a refused message: where it waits for the outcome, and by a route."""

import json
import threading
import time
from collections.abc import Iterator, Mapping

import pytest

from message_worker_client import Outcomes, Producer, wait_for_reply
from message_worker_client.replies import _BY_KEY, MessageKey
from tests.support.cli import invoke
from tests.support.receiver import Receiver, receiver
from tests.support.world import NAMESPACE, HandDrivenWorker, World
from worker.bootstrap.reports import open_database
from worker.config.agents_file import load_agents
from worker.domain.errors import SettingsError
from worker.domain.messages import Sender
from worker.domain.reasons import DeadLetterReason
from worker.domain.states import Resolution
from worker.store.privacy.raw_bytes import RawStore
from worker.store.privacy.retention import RetentionStore

TASK = "2f1d3a57-0c8e-4f7b-8d51-7b6f5e4d3c2b"
AGENTS = "[agents.default]\n[channels.mail]\nkind = 'email'\n"
BY_TASK = f"""
refusals = "office"
{AGENTS}
[routes.office.delivery]
task = "office.refused"
queue = "office"
"""


def refuse(worker: HandDrivenWorker, envelope: Mapping[str, object], task_id: str = TASK) -> None:
    received = worker.service.receive(
        envelope,
        raw=lambda: json.dumps([[], {"envelope": envelope}, {}]).encode(),
        queue="inbound",
        sender=Sender(task_id=task_id),
    )
    assert received.accepted is None


def key_of(envelope: Mapping[str, object]) -> MessageKey:
    names = ("channel", "user", "message_id")
    return MessageKey(**{name: str(envelope[name]) for name in names})


def test_who_waits_for_a_refused_message_gets_the_reason_at_once(
    world: World, database_url: str
) -> None:
    mike = world.worker(AGENTS)
    envelope = world.envelope("hello", channel="mail", user="Anna@Example.ORG", agent="sales")
    refuse(mike, envelope)
    names = {"channel": "mail", "user": "Anna@example.org", "message_id": envelope["message_id"]}
    began = time.monotonic()
    outcome = wait_for_reply(database_url, **names, timeout_s=30)  # type: ignore[arg-type]
    assert time.monotonic() - began < 5
    assert outcome is not None
    assert (outcome.outcome, outcome.message, outcome.text) == ("unknown_agent", None, None)
    assert outcome.detail == "agent: the configuration has none of that name"
    assert outcome.dead_letter == 1
    (row,) = world.database.rows("SELECT * FROM message_outcomes")
    assert (row["state"], str(row["task_id"])) == ("refused", TASK)


def test_a_refusal_ends_with_the_acceptance_of_its_message(world: World, database_url: str) -> None:
    mike = world.worker(AGENTS)
    wrong, right = world.envelope("hello", agent="sales"), None
    right = {**wrong, "agent": "default"}
    with Outcomes(database_url) as outcomes:
        refuse(mike, wrong)
        refuse(mike, wrong, TASK[:-1] + "c")
        key = key_of(wrong)
        assert [one.dead_letter for _, one in outcomes.by_key([key])] == [2], "the newest"
        assert outcomes.by_key([key], task_id=TASK[:-1] + "c") != []
        assert outcomes.by_key([key], task_id=TASK[:-1] + "d") == [], "an earlier attempt's"
        world.clock.advance(1)
        outcomes.forget_refusals()
        assert outcomes.by_key([key]) == []
        mike.accept_only(right)
        assert outcomes.by_key([key]) == []
        mike.answer()
        ((_, ended),) = outcomes.by_key([key])
        assert ended.outcome == "answered"


def test_outcomes_are_looked_up_by_their_keys_however_many_messages_there_are(
    world: World, database_url: str
) -> None:
    world.database.run(
        "WITH u AS (INSERT INTO channel_users (channel, address)"
        " SELECT 'sms', n FROM generate_series(1, 3000) AS n RETURNING id)"
        " INSERT INTO messages (channel_user_id, message_id, seq, order_at, agent, envelope)"
        " SELECT id, 'm', 1, now(), 'default', '{}' FROM u"
    )
    world.database.run("ANALYZE")
    values = [["sms"], [""], ["7"], [""], ["m"], None, None]
    plan = world.database.rows("EXPLAIN " + _BY_KEY, *values)
    assert "Seq Scan on messages" not in "\n".join(row["QUERY PLAN"] for row in plan)


def test_send_with_wait_ends_at_once_on_a_refusal(
    world: World, database_url: str, broker_url: str
) -> None:
    mike = world.worker(AGENTS)
    envelope = world.envelope("hello", agent="sales")
    refuse(mike, envelope)  # an earlier attempt: not this one's outcome
    world.clock.advance(1)
    again = threading.Timer(1.5, refuse, (mike, envelope))
    again.start()
    began = time.monotonic()
    fields = ("channel", "user", "text", "message_id", "agent")
    options = [part for f in fields for part in (f"--{f.replace('_', '-')}", str(envelope[f]))]
    env = {"DATABASE_URL": database_url, "BROKER_URL": broker_url, "NAMESPACE": str(NAMESPACE)}
    said = invoke("send", *options, "--wait", "--timeout", "60", env=env | {"SANDBOX_DIR": "/none"})
    again.join()
    assert 1.0 < time.monotonic() - began < 20
    assert said.returncode == 1
    assert "1 unknown_agent" in said.stdout
    assert "1 refused: agent: the configuration has none of that name" in said.stderr
    assert "worker dead-letters show 2" in said.stderr


def test_a_producer_knows_the_id_of_its_task(broker_url: str) -> None:
    with Producer(broker_url=broker_url) as producer:
        queued = producer.send(channel="web", user="ann", message_id="m-1", text="hello")
    assert queued.task_id is not None


def test_a_task_tells_the_producer_of_a_refusal(world: World) -> None:
    mike = world.worker(BY_TASK)
    envelope = world.envelope("a secret", agent="sales")
    refuse(mike, envelope)
    mike.service.dead_letters.keep(
        reason=DeadLetterReason.NOT_JSON, raw=b"garbage", detail="", queue="inbound"
    )
    (user,) = world.database.rows("SELECT channel_user_id AS id FROM deliveries")
    assert mike.service.deliver(user["id"]) == ["sent delivery=1"]
    ((task, queue, task_id, kwargs),) = mike.broker.tasks
    assert (task, queue) == ("office.refused", "office")
    assert kwargs["refusal"] == {
        "version": 1,
        "idempotency_key": task_id,
        "refused": {
            "reason": "unknown_agent",
            "detail": "agent: the configuration has none of that name",
        },
        "dead_letter": 1,
        "task_id": TASK,
        "queue": "inbound",
        "channel": "sms",
        "recipient": "",
        "user": envelope["user"],
        "thread": "",
        "message_id": envelope["message_id"],
    }


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def test_a_signed_webhook_tells_the_producer_of_a_refusal_and_is_tried_again(
    world: World, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFICE_KEY", "whsec_" + "Q0FOQVJZLWI3ZTE" * 3 + "Cg==")
    url = f'url = "{hook.url}/refused"\nsecret_env = "OFFICE_KEY"\nallow_private = true\n'
    mike = world.worker(f'refusals = "office"\n{AGENTS}[routes.office.delivery]\n{url}')
    with Producer(database_url=world.database.url) as producer:
        producer.send(channel="sms", user="ann", message_id="m-1", text="hi", agent="sales")
    mike.service.background.drain_inbox()
    hook.answers["/refused"] = [500, 200]
    user = world.database.value("SELECT channel_user_id FROM deliveries")
    assert mike.service.deliver(user) == ["waiting delivery=1"]
    world.clock.advance(30)
    assert mike.service.deliver(user) == ["sent delivery=1"]
    first, second = hook.posted
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    document = json.loads(second.raw)
    assert document["refused"]["reason"] == "unknown_agent"
    assert (document["message_id"], document["queue"]) == ("m-1", "inbox")


@pytest.mark.parametrize(
    "route", ["", "[routes.office]\n", "[routes.office.delivery]\nentry_point = 'x'\n"]
)
def test_a_route_for_refusals_must_be_able_to_carry_them(world: World, route: str) -> None:
    file = world.folder / "wrong.toml"
    file.write_text(f'refusals = "office"\n{AGENTS}{route}')
    with pytest.raises(SettingsError, match=r"refusals: .*give \[routes.office.delivery\] a task"):
        load_agents(file)


def test_a_notice_goes_with_its_dead_letter(world: World) -> None:
    mike = world.worker(BY_TASK)
    refuse(mike, world.envelope("hello", agent="sales"))
    user = world.database.value("SELECT channel_user_id FROM deliveries")
    with open_database(world.database.url) as database:
        RawStore(database).delete_rows("dead_letters", [1])
        assert mike.service.deliver(user) == []
        assert world.database.value("SELECT count(*) FROM deliveries") == 0
        refuse(mike, world.envelope("hello", agent="sales"))
        (letter,) = mike.operator.dead_letters.find()
        mike.operator.dead_letters.resolve(letter.id, Resolution.DISMISSED)
        world.clock.advance(3 * 86400)
        assert {"dead_letters": 1} in list(RetentionStore(database, keep_days=1).run())
    assert world.database.value("SELECT count(*) FROM deliveries") == 0
