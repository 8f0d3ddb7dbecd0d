"""Replies on their way out of two real workers: as tasks, approved, to a webhook that is down."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from tests.support.cli import worker
from tests.support.databases import fresh_database
from tests.support.fleet import Ground, agents_file, running_fleet
from tests.support.gateway import GatewayProcess
from tests.support.processes import open_folder
from tests.support.receiver import Posted, Receiver, receiver
from tests.support.tcp_proxy import Mode, TcpProxy
from tests.support.world import NAMESPACE, Clock
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import Simulator, SimulatorConfig

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
WAVES = 3
UNTRIED = """
SELECT count(*) FROM deliveries d
WHERE lease_until IS NOT NULL OR (due_at <= service_now() AND NOT EXISTS (
    SELECT FROM deliveries before
    WHERE before.channel_user_id = d.channel_user_id AND before.state IN ('pending', 'sending')
      AND before.id < d.id))
"""
"""Replies under way, and those that are due and first in line."""


@dataclass(frozen=True, kw_only=True)
class Out:
    """Two workers, the clock of their database, and a receiver behind a proxy."""

    ground: Ground
    clock: Clock
    hooks: Receiver
    proxy: TcpProxy

    def talk(self, channel: str, *users: str) -> None:
        """Each says something, gets a reply, says the next thing."""
        for wave in range(WAVES):
            said = [self.ground.envelope(f"{wave}", user=user, channel=channel) for user in users]
            self.ground.fleet.send(*said)
            self.ground.wait_until_final(*users, messages=len(users) * (wave + 1))

    def replies(self, user: str) -> list[tuple[str, str]]:
        """Key and text of each reply, in order."""
        rows = self.ground.database.rows(
            "SELECT d.idempotency_key::text AS key, r.text FROM deliveries d"
            " JOIN replies r ON r.id = d.reply_id JOIN channel_users u ON u.id = d.channel_user_id"
            " WHERE u.address = %s ORDER BY r.id",
            user,
        )
        return [(row["key"], row["text"]) for row in rows]

    def deliver_after(self, seconds: float = 0.0) -> None:
        """Let time pass, and wait until the workers have tried whatever is due then."""
        self.clock.advance(seconds)
        self.ground.fleet.wait_for(lambda: self.ground.database.value(UNTRIED) == 0)

    def draft(self, user: str) -> int:
        """The reply that waits for a person to approve it."""
        reply = self.ground.database.value(
            "SELECT d.reply_id FROM deliveries d JOIN channel_users u ON u.id = d.channel_user_id"
            " WHERE d.state = 'held' AND u.address = %s",
            user,
        )
        return int(reply)

    def settings(self) -> dict[str, str]:
        """What a command needs."""
        fleet = self.ground.fleet
        agents = fleet.folder / "command-agents.toml"
        agents.write_text(fleet.agents)
        return {
            "DATABASE_URL": fleet.database_url,
            "BROKER_URL": fleet.broker_url,
            "TELNYX_API_KEY": fleet.telnyx_api_key,
            "NAMESPACE": str(NAMESPACE),
            "AGENTS_FILE": str(agents),
        }

    def attempts(self, channel: str) -> list[int]:
        rows = self.ground.database.rows(
            "SELECT attempts FROM deliveries WHERE channel = %s ORDER BY id", channel
        )
        return [row["attempts"] for row in rows]

    def states(self, channel: str) -> set[str]:
        rows = self.ground.database.rows("SELECT state FROM deliveries WHERE channel = %s", channel)
        return {row["state"] for row in rows}


@pytest.fixture(scope="module")
def out(shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis) -> Iterator[Out]:
    with (
        open_folder() as folder,
        fresh_database(shared_postgres) as url,
        Simulator(SimulatorConfig(list_visible_after_s=0)) as simulator,
        receiver() as hooks,
        TcpProxy(("127.0.0.1", int(hooks.url.rpartition(":")[2]))) as proxy,
        running_fleet(
            folder,
            database_url=url,
            broker_url=shared_redis.url_of(3),
            simulator=simulator,
            agents=agents_file(more=ways_out(folder, proxy)),
        ) as ground,
    ):
        clock = Clock(ground.database)
        ground.fleet.start(2)
        yield Out(ground=ground, clock=clock, hooks=hooks, proxy=proxy)


def ways_out(folder: Path, proxy: TcpProxy) -> str:
    (folder / "key").write_text(SECRET)
    return f"""
[channels.crm.delivery]
task = "replies.take"
queue = "crm"
[channels.checked]
approve = "all"
[channels.checked.delivery]
task = "replies.take"
queue = "crm"
[channels.push.delivery]
url = "http://127.0.0.1:{proxy.port}/in"
secret_file = "key"
allow_private = true
"""


def test_replies_come_back_as_tasks_in_order_for_each_user(out: Out) -> None:
    users = [out.ground.user() for _ in range(3)]
    out.talk("crm", *users)
    out.deliver_after()
    got = tasks_of_the_producer(out)
    assert len(got) == len(users) * WAVES
    for user in users:
        replies = out.replies(user)
        assert len(replies) == WAVES
        assert [
            (one["idempotency_key"], one["text"]) for one in got if one["user"] == user
        ] == replies


def tasks_of_the_producer(out: Out) -> list[dict[str, Any]]:
    """The replies in their queue, as their own Celery reads them."""
    got: list[dict[str, Any]] = []
    celery = out.ground.fleet.producer
    with celery.connection() as connection, connection.SimpleQueue("crm") as queue:
        for _ in range(queue.qsize()):
            task = queue.get(timeout=5)
            task.ack()
            reply = task.payload[1]["reply"]
            assert task.headers["task"] == "replies.take"
            assert task.headers["id"] == reply["idempotency_key"]
            got.append(reply)
    return got


def test_a_command_and_a_request_approve_replies_that_wait(out: Out) -> None:
    """The newest of each person: the earlier ones were overtaken."""
    ann, bob = out.ground.user(), out.ground.user()
    out.talk("checked", ann, bob)
    assert out.states("checked") == {"superseded", "held"}
    first = str(out.draft(ann))
    done = worker("replies", "approve", first, "--by", "ada", env=out.settings())
    assert done.returncode == 0, done.stderr
    gateway = GatewayProcess.beside(out.ground.fleet, GATEWAY_TOKEN="token")
    try:
        edit = f"http://127.0.0.1:{gateway.port}/replies/{out.draft(bob)}/edit"
        body = {"by": "bob", "text": "From ten."}
        answers = [
            httpx.post(edit, json=body, headers={"authorization": "Bearer token"}).status_code
            for _ in range(2)
        ]
    finally:
        gateway.kill()
    assert answers == [200, 409]
    out.deliver_after()
    got = tasks_of_the_producer(out)
    assert {one["user"]: one["text"] for one in got} == {
        ann: out.replies(ann)[-1][1],
        bob: "From ten.",
    }
    assert len(got) == 2
    assert out.states("checked") == {"superseded", "sent"}


def test_a_webhook_that_was_down_gets_each_reply_in_order_and_one_for_each_id(out: Out) -> None:
    users = [out.ground.user() for _ in range(3)]
    out.proxy.mode = Mode.REFUSE
    out.talk("push", *users)
    out.deliver_after()
    out.deliver_after(5.1)
    assert out.attempts("push") == [2] * 3 + [0] * 6, "nothing overtakes the first of each"
    assert out.hooks.posted == []

    out.proxy.mode = Mode.PASS
    out.hooks.answers["/in"] = [503, 200]
    # The fourth, and what is under way beside it: the first three may reach the receiver in another
    # order, and the one that is refused must not be the one whose answer is lost.
    lost = out.proxy.lose_answer_to(b"POST /in", skip=3)
    out.deliver_after(300.1)
    for _ in range(2):
        out.deliver_after(1800.1)
    assert out.states("push") == {"sent"}
    taken: dict[str, dict[str, Any]] = {}
    for posted in out.hooks.posted:
        reply = verified(posted)
        assert taken.setdefault(posted.headers["webhook-id"], reply) == reply
    assert lost.is_set()
    assert len(out.hooks.posted) >= len(taken) + 2, "one was refused, the answer to one was lost"
    for user in users:
        replies = out.replies(user)
        assert len(replies) == WAVES
        of_user = [(key, one["text"]) for key, one in taken.items() if one["user"] == user]
        assert of_user == replies


def verified(posted: Posted) -> dict[str, Any]:
    """The body, as the library of Standard Webhooks gives it to a holder of the secret."""
    document: dict[str, Any] = Webhook(SECRET).verify(posted.raw, posted.headers)
    assert document["idempotency_key"] == posted.headers["webhook-id"]
    return document
