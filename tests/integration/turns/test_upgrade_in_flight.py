"""What commit db36c75 left in flight is answered by this code: its rows, its queue entries.

The recording was made by real workers of that commit, which were killed with messages in every
state: `tests/fixtures/commit_db36c75/record.py` says how. Here it is restored, migrated to head,
and given to one real worker, with a simulator that goes on with the recorded conversations.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

import pytest
from redis import Redis

from tests.support import oracle
from tests.support.cli import invoke
from tests.support.databases import fresh_database
from tests.support.fleet import TIMING, Ground, running_fleet
from tests.support.in_flight import WEBHOOK_SECRET, Recording, key_of
from tests.support.oracle import MessageKey
from tests.support.processes import eventually, open_folder
from tests.support.receiver import Receiver, receiver
from tests.support.world import NAMESPACE, Clock, bring_forward
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import Simulator, SimulatorConfig

RECORDING = Recording("db36c75")
PATIENCE_S = 30.0
GATE_S = 600.0
"""By then the recorded gates are open, and the last delivery may be tried again."""
ENDS = {
    "paul": ["answered", "human"],
    "pia": ["answered", "human"],
    "poison": ["no_answer"],
    "disturbed": [None],
    "expiring": ["expired"],
    "lena": ["answered", "over_budget"],
}
"""How messages end that are not simply answered, by who wrote them."""
SOURCES = {
    "adopt": ["adopted", "call"],
    "unread": ["adopted"],
    "lost": ["call"],
    "dropped": ["call"],
    "opening": ["call"],
    "created": ["call"],
    "between": ["call"],
    "tool": ["call"],
    "inside": ["call"],
    "waiting": ["call"],
    "unaccepted": ["call"],
}
"""Where the replies came from, to those who were in the middle of something."""
LETTERS = "SELECT id, kind, reason, resolution FROM dead_letters ORDER BY id"
UNDONE = """
SELECT 'message' AS what, m.id, m.state FROM messages m
JOIN channel_users u ON u.id = m.channel_user_id
WHERE m.outcome IS NULL AND u.diverged_at IS NULL AND m.agent <> 'busy'
UNION ALL SELECT 'delivery', id, state FROM deliveries
WHERE state IN ('pending', 'sending') AND channel <> 'broken'
UNION ALL SELECT 'inbox', id, '' FROM inbox
"""
BEHIND_GATES = """
SELECT 'message' AS what, id, state FROM messages WHERE agent = 'busy' AND outcome IS NULL
UNION ALL SELECT 'delivery', id, state FROM deliveries WHERE state IN ('pending', 'sending')
"""


@dataclass(kw_only=True)
class Replay:
    """What was there before, and what there is afterwards."""

    ground: Ground
    redis: Redis
    hooks: Receiver
    accepted: set[MessageKey]
    letters: list[dict[str, Any]]
    behind_gates: int = 0
    """How much still waited when everything else was done."""

    def settings(self) -> dict[str, str]:
        """Give what a command of an operator needs."""
        fleet = self.ground.fleet
        return {
            "DATABASE_URL": fleet.database_url,
            "BROKER_URL": fleet.broker_url,
            "TELNYX_BASE_URL": fleet.telnyx_base_url,
            "TELNYX_API_KEY": fleet.telnyx_api_key,
            "NAMESPACE": str(NAMESPACE),
        }

    def remains(self, query: str) -> list[object]:
        """Tell what is not accepted, not done, or still in Redis."""
        rows = self.ground.database.rows(
            "SELECT u.channel, u.recipient, u.address, u.thread, m.message_id"
            " FROM messages m JOIN channel_users u ON u.id = m.channel_user_id"
        )
        missing = self.accepted - {MessageKey(**row) for row in rows}
        return [*missing, *self.ground.database.rows(query), *self.left_in_redis().items()]

    def wait_for_the_end(self, query: str) -> None:
        """Wait until nothing remains; AssertionError with what does."""
        if not eventually(lambda: not self.remains(query), timeout_s=PATIENCE_S):
            remains = "\n".join(map(str, self.remains(query)))
            raise AssertionError(f"{self.ground.fleet.report()}\n{remains}")

    def left_in_redis(self) -> dict[str, int]:
        """Count what waits, or was taken and never acknowledged."""
        lengths = {
            name: self.redis.llen(name) if isinstance(value, list) else self.redis.hlen(name)
            for name, value in RECORDING.keys.items()
            if not name.startswith("_kombu") and name not in {"outbound", "unacked_index"}
        }
        return {name: length for name, length in lengths.items() if length}


@pytest.fixture(scope="module")
def ground(shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis) -> Iterator[Ground]:
    """The recorded rows, migrated to head; Telnyx as it was; no worker yet."""
    config = SimulatorConfig(list_visible_after_s=0, idempotency_ttl_s=inf)
    with open_folder() as folder, fresh_database(shared_postgres, template="template1") as url:
        RECORDING.restore_rows(url)
        migrated = invoke("migrate", env={"DATABASE_URL": url})
        assert migrated.returncode == 0, migrated.stderr
        with (
            Simulator(config, RECORDING.copy_of_log(folder)) as simulator,
            running_fleet(
                folder,
                database_url=url,
                broker_url=shared_redis.url,
                simulator=simulator,
                agents="",
            ) as made,
        ):
            yield made


@pytest.fixture(scope="module")
def replay(ground: Ground, shared_redis: EmbeddedRedis) -> Iterator[Replay]:
    """A worker of this code has done all it can; then the gates' time has passed, too."""
    clock = Clock(ground.database)
    clock.advance(-RECORDING.seconds_behind())
    with Redis.from_url(shared_redis.url) as redis, receiver() as hooks:
        redis.flushall()
        RECORDING.restore_redis(redis)
        ground.fleet.agents = RECORDING.agents_file(hooks.url, TIMING)
        made = Replay(
            ground=ground,
            redis=redis,
            hooks=hooks,
            accepted=before(ground) | RECORDING.queued(),
            letters=ground.database.rows(LETTERS),
        )
        ground.fleet.start(WEBHOOK_SECRET=WEBHOOK_SECRET)
        made.wait_for_the_end(UNDONE)
        made.behind_gates = len(ground.database.rows(BEHIND_GATES))
        bring_forward(ground.database, GATE_S)
        made.wait_for_the_end(BEHIND_GATES)
        yield made
        redis.flushall()


def before(ground: Ground) -> set[MessageKey]:
    """The messages that were accepted already, or lie in the inbox."""
    rows = ground.database.rows(
        "SELECT envelope FROM messages UNION ALL SELECT envelope FROM inbox"
    )
    return {key_of(row["envelope"]) for row in rows}


def test_every_message_ends_once_with_the_outcome_it_should_have(replay: Replay) -> None:
    users = {key.address for key in replay.accepted}
    ends = {user: replay.ground.outcomes(user) for user in users}

    assert sum(map(len, ends.values())) == len(replay.accepted)
    assert ends == {user: ENDS.get(user, ["answered"] * len(ends[user])) for user in users}
    assert {user: replay.ground.sources(user) for user in SOURCES} == SOURCES


def test_telnyx_heard_everything_once_and_in_order(replay: Replay) -> None:
    seen = oracle.Expectations(accepted=replay.accepted, slack_s=0.2)
    simulator = replay.ground.simulator

    assert oracle.check(replay.ground.database, simulator.log(), seen) == []
    rows = replay.ground.database.rows(
        "SELECT telnyx_conversation_id::text AS id FROM conversations"
    )
    assert {row["id"] for row in rows} == {one.id for one in simulator.conversations()}


def test_instructions_are_not_said_again_nor_tools_run_again(replay: Replay) -> None:
    simulator, database = replay.ground.simulator, replay.ground.database
    said = Counter(
        one.id
        for one in simulator.conversations()
        for message in simulator.messages(one.id)
        if message.origin == "instructions"
    )
    instructed = (
        "SELECT telnyx_conversation_id::text AS id FROM conversations WHERE agent = 'default'"
    )

    assert said == dict.fromkeys((row["id"] for row in database.rows(instructed)), 1)
    assert database.rows("SELECT name, state FROM tool_calls ORDER BY id") == [
        {"name": "refund", "state": "done"},
        {"name": "order_status", "state": "done"},
        {"name": "meet", "state": "unknown"},
    ]


def test_replies_that_were_on_their_way_arrive_once_and_in_order(replay: Replay) -> None:
    rows = replay.ground.database.rows(
        "SELECT d.channel, d.state, d.idempotency_key::text AS key, r.text FROM deliveries d"
        " JOIN replies r ON r.id = d.reply_id WHERE d.channel <> 'web' AND d.channel <> 'sms'"
        " ORDER BY d.id"
    )
    posted = [(one.headers["webhook-id"], one.body["text"]) for one in replay.hooks.posted]
    silent, broken, late = (
        [(row["key"], row["text"]) for row in rows if row["channel"] == channel]
        for channel in ("silent", "broken", "late")
    )

    assert Counter(row["state"] for row in rows) == {"sent": 5, "failed": 1}
    assert [one for one in posted if one in silent] == silent
    assert sorted(posted) == sorted(silent + broken + late)
    assert replay.redis.lrange("outbound", 0, -1) == [
        entry.encode() for entry in RECORDING.keys["outbound"]
    ]


def test_what_stood_still_stands_still_and_nothing_new_is_dead(replay: Replay) -> None:
    database = replay.ground.database
    paused = "SELECT address FROM channel_users WHERE paused_at IS NOT NULL ORDER BY 1"
    diverged = "SELECT address FROM channel_users WHERE diverged_at IS NOT NULL"

    assert [row["address"] for row in database.rows(paused)] == ["paul", "pia"]
    assert [row["address"] for row in database.rows(diverged)] == ["disturbed"]
    assert replay.behind_gates == 3, "a closed gate was not respected"
    assert database.rows(LETTERS) == replay.letters
    assert replay.left_in_redis() == {}


def test_a_dead_letter_of_that_time_can_be_replayed(replay: Replay) -> None:
    database = replay.ground.database
    number = database.value("SELECT id FROM dead_letters WHERE kind = 'message'")
    said = invoke("dead-letters", "replay", str(number), env=replay.settings())

    assert said.returncode == 0, said.stderr
    replay.ground.fleet.wait_for(lambda: replay.ground.outcomes("poison") == ["answered"])
