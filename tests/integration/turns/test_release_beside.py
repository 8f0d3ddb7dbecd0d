"""The release before works beside this code, on tables that this code has migrated.

Its workers are the program of its commit with the packages of its lock; so are its commands and its
client. They and ours answer the same people, during an upgrade and after a rollback.
"""

import json
import lzma
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from tests.migrations.test_migrations import SHAPE, read
from tests.support import oracle
from tests.support.cli import invoke
from tests.support.databases import ROOT, TEMPLATE, fresh_database
from tests.support.fleet import Fleet, Ground, RealWorker, running_fleet
from tests.support.oracle import MessageKey
from tests.support.processes import open_folder
from tests.support.receiver import Receiver, receiver
from tests.support.releases import LATEST, PARTS, RELEASES, Release, packed, restored
from tests.support.world import NAMESPACE
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import Simulator, SimulatorConfig
from worker.store.revisions import revisions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

AGENTS = """
[agents.default]
call_timeout_s = 20
[channels.web]
reorder_s = 0
[channels.careful]
approve = "all"
[channels.careful.delivery]
url = "{receiver}/careful"
secret_file = "key"
allow_private = true
[channels.push.delivery]
url = "{receiver}/push"
secret_file = "key"
allow_private = true
[timing]
send_grace_s = 0.5
lease_margin_s = 1.5
execution_limit_s = 1.5
quiet_margin_s = 0.5
settle_s = 0.5
look_first_s = 0.2
heartbeat_s = 0.5
alive_s = 1.5
sweep_s = 0.2
"""
"""As the release understands it: an installation keeps its file over an upgrade."""
USERS = ("ann", "ben", "cleo", "dora", "emil", "jack")
CHANNELS = {"iris": "careful", "jack": "push"}
"""The others are on `web`, whose replies go nowhere."""
CLIENT = """
import json, sys
from message_worker_client import Producer
with Producer(**json.loads(sys.argv[1])) as producer:
    producer.send_many(json.load(sys.stdin))
"""
MOST_WAVES = 20


@dataclass(kw_only=True)
class Upgrade:
    """An installation of the release, on its way to this code."""

    release: Release
    ground: Ground
    old: Fleet
    """Starts workers of the release, of the same installation."""
    hooks: Receiver
    sent: dict[str, list[str]] = field(default_factory=dict)
    """What each person wrote, in order."""

    def settings(self) -> dict[str, str]:
        """What a command needs."""
        fleet = self.ground.fleet
        agents = fleet.folder / "agents.toml"
        agents.write_text(fleet.agents)
        return {
            "DATABASE_URL": fleet.database_url,
            "BROKER_URL": fleet.broker_url,
            "TELNYX_BASE_URL": fleet.telnyx_base_url,
            "TELNYX_API_KEY": fleet.telnyx_api_key,
            "NAMESPACE": str(NAMESPACE),
            "AGENTS_FILE": str(agents),
        }

    def command(self, *arguments: str) -> None:
        """Run a command of this code."""
        done = invoke(*arguments, env=self.settings())
        assert done.returncode == 0, done.stderr

    def send(self, *users: str, by_sql: bool = False) -> None:
        """Send one message of each by the release's client, and wait until all are accepted.

        So the order in which one person's messages are accepted is that of `sent`.
        """
        messages = []
        for user in users:
            texts = self.sent.setdefault(user, [])
            texts.append(f"{user} {len(texts) + 1}")
            words = {"message_id": id_of(texts[-1]), "text": texts[-1]}
            messages.append({"channel": CHANNELS.get(user, "web"), "user": user, **words})
        way = "database_url" if by_sql else "broker_url"
        address = {way: getattr(self.ground.fleet, way)}
        self.release.run("-c", CLIENT, json.dumps(address), stdin=json.dumps(messages))
        self.ground.fleet.wait_for(lambda: self.accepted() == sum(map(len, self.sent.values())))

    def accepted(self) -> int:
        return int(self.ground.database.value("SELECT count(*) FROM messages"))

    def send_until_called(self, *workers: RealWorker) -> None:
        """Send messages of the same people until each of these workers has called Telnyx."""
        last = self.ground.database.value("SELECT coalesce(max(id), 0) FROM calls")
        for _ in range(MOST_WAVES):
            self.send(*USERS)
            rows = self.ground.database.rows(
                "SELECT DISTINCT w.pid FROM calls c JOIN workers w ON w.id = c.worker_id"
                " WHERE c.id > %s",
                last,
            )
            if {worker.pid for worker in workers} <= {row["pid"] for row in rows}:
                return
        raise AssertionError(f"not each of them answers\n{self.ground.fleet.report()}")

    def wait_for_row(self, query: str) -> None:
        self.ground.fleet.wait_for(lambda: bool(self.ground.database.rows(query)))

    def wait_for_the_end(self) -> None:
        """Wait until each message has its outcome, and each reply is delivered."""
        self.ground.wait_until_final(*self.sent, messages=self.accepted())
        waiting = "SELECT 1 FROM deliveries WHERE state IN ('pending', 'sending')"
        self.ground.fleet.wait_for(lambda: not self.ground.database.rows(waiting))

    def posted(self, channel: str) -> list[str]:
        """The replies that the receiver of a channel got, in order."""
        return [one.body["text"] for one in self.hooks.posted if one.path == f"/{channel}"]

    def replies(self, user: str) -> list[str]:
        rows = self.ground.database.rows(
            "SELECT r.text FROM replies r JOIN turns t ON t.id = r.turn_id JOIN channel_users u"
            " ON u.id = t.channel_user_id WHERE u.address = %s ORDER BY r.id",
            user,
        )
        return [row["text"] for row in rows]


@pytest.fixture
def upgrade(shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis) -> Iterator[Upgrade]:
    """Tables that the release made, and no worker yet."""
    with (
        open_folder() as folder,
        fresh_database(shared_postgres, template="template1") as url,
        Simulator(SimulatorConfig(list_visible_after_s=0)) as simulator,
        receiver() as hooks,
        running_fleet(
            folder,
            database_url=url,
            broker_url=shared_redis.url_of(7),
            simulator=simulator,
            agents=AGENTS.replace("{receiver}", hooks.url),
        ) as ground,
    ):
        (folder / "key").write_text("whsec_" + "A" * 32)
        release = restored(LATEST, folder / "release")
        release.run("-m", "worker", "migrate", DATABASE_URL=url)
        old = replace(ground.fleet, python=release.command, forked=False)
        yield Upgrade(release=release, ground=ground, old=old, hooks=hooks)


def test_what_lies_here_of_a_release_is_its_commit() -> None:
    for version, commit in RELEASES.items():
        archive = subprocess.run(
            ["git", "-C", ROOT, "archive", commit, *PARTS], capture_output=True, check=False
        )
        # A shallow clone lacks the commit.
        assert archive.returncode or archive.stdout == lzma.decompress(packed(version).read_bytes())


def test_the_release_before_and_this_code_answer_the_same_people(
    upgrade: Upgrade, shared_postgres: EmbeddedPostgres
) -> None:
    fleet, old = upgrade.ground.fleet, upgrade.old
    known = read(fleet.database_url, "SELECT version_num FROM alembic_version")
    two = old.start(2)
    upgrade.send(*USERS)
    victim = left_half_way(upgrade)

    upgrade.command("migrate")
    with fresh_database(shared_postgres, template=TEMPLATE) as fresh:
        assert read(fleet.database_url, SHAPE) == read(fresh, SHAPE)
    (new,) = fleet.start()
    (other,) = [one for one in two if one is not victim]
    upgrade.send_until_called(other, new)
    assert stopped(other) == 0
    victim.kill()

    upgrade.send(*USERS)
    upgrade.send(*USERS, "gus", by_sql=True)
    ends_what_was_left(upgrade)

    (rolled_back,) = old.start()
    is_ahead = known != {revisions()[-1]}
    assert ("worker.schema_ahead" in rolled_back.output()) == is_ahead
    upgrade.send_until_called(rolled_back, new)
    assert stopped(new) == 0
    upgrade.send(*USERS, "gus")
    upgrade.send(*USERS, by_sql=True)

    upgrade.wait_for_the_end()
    all_are_answered_once_in_order(upgrade)


def all_are_answered_once_in_order(upgrade: Upgrade) -> None:
    ground = upgrade.ground
    assert {user: ground.said(user) for user in upgrade.sent} == upgrade.sent
    accepted = {
        MessageKey(channel=CHANNELS.get(user, "web"), address=user, message_id=id_of(text))
        for user, texts in upgrade.sent.items()
        for text in texts
    }
    expected = oracle.Expectations(accepted=accepted, slack_s=0.2)
    assert oracle.check(ground.database, ground.simulator.log(), expected) == []
    assert ground.database.rows("SELECT kind, reason FROM dead_letters") == []
    for user, channel in CHANNELS.items():
        assert upgrade.posted(channel) == upgrade.replies(user)


def id_of(text: str) -> str:
    return text.replace(" ", "-")


def left_half_way(upgrade: Upgrade) -> RealWorker:
    """Have a draft that waits, and a call whose answer hangs; return the worker that made it."""
    upgrade.send("iris")
    upgrade.wait_for_row("SELECT 1 FROM deliveries WHERE state = 'held'")
    upgrade.ground.simulator.inject("stored_then_hang")
    upgrade.send("hal")
    return upgrade.ground.wait_for_call("hal 1")


def ends_what_was_left(upgrade: Upgrade) -> None:
    """See it ended by a worker of this code, which is the only one by now."""
    upgrade.send("hal")
    upgrade.ground.wait_until_final("hal", messages=2)
    assert upgrade.ground.sources("hal") == ["adopted", "call"]
    draft = upgrade.ground.database.value("SELECT reply_id FROM deliveries WHERE state = 'held'")
    upgrade.command("replies", "approve", str(draft))
    upgrade.wait_for_row("SELECT 1 FROM deliveries WHERE channel = 'careful' AND state = 'sent'")


def stopped(worker: RealWorker) -> int | None:
    """Stop a worker as a supervisor does; return its exit code."""
    worker.process.send_signal(signal.SIGTERM)
    return worker.wait()
