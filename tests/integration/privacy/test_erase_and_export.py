"""Erasing and exporting people, on real Postgres, real Redis and the simulator."""

import base64
import json
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from celery import Celery
from redis import Redis

from message_worker_client.envelope.wire import MAX_ENTRY_BYTES
from tests.support.cli import Said, invoke_in
from tests.support.processes import eventually
from tests.support.world import NAMESPACE, USER, HandDrivenWorker, World
from worker.cli.errors import CommandError
from worker.cli.operators import commands
from worker.cli.operators.commands import queue_entries
from worker.domain.deliveries import DeliveryOutcome, NotDelivered, OutgoingReply
from worker.domain.errors import RetryableError
from worker.domain.ids import ChannelUserId
from worker.handlers.privacy.erase import EraseUser
from worker.handlers.turns.find_conversation import USER_KEY, user_tag
from worker.queue.entries import _PAGE
from worker.sandbox.simulator import Endpoint, Match
from worker.store.database import Database
from worker.store.privacy.raw_bytes import RawStore

WHO = f"sms:{USER}"
OTHER = "+13125550002"
THEM = ChannelUserId(1)
ALIVE_S = 16
QUIET_S = 2 + 75 + 90 + 13
AGENTS = """
[agents.default]
tools = ["refund"]
[tools.refund]
function = "tests.support.toolbox:refund"
"""


def send_by_celery(world: World, *envelopes: dict[str, Any]) -> None:
    """Queue documents unchecked, as any program with Celery can."""
    with Celery(broker=world.broker_url, set_as_current=False) as app:
        for envelope in envelopes:
            app.send_task("messages.receive", kwargs={"envelope": envelope}, queue="inbound")


@pytest.fixture
def world(world: World, broker_url: str) -> World:
    world.broker_url = broker_url
    return world


def run(world: World, *arguments: str | Path) -> Said:
    return invoke_in(world, *arguments, agents=AGENTS)


def told(world: World, *arguments: str) -> Any:  # noqa: ANN401 # whatever it is
    said = run(world, *arguments, "--json")
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def test_one_hostile_row_stops_neither_export_nor_erase_of_anybody(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    mike.answer()
    deep = "[" * 300 + "]" * 300
    theirs = f'{{"user": "{USER}", "x": {deep}}}'
    marks = "\u0301\u0316" * 200_000
    for content in (theirs, f'{{"x": {deep}}}', json.dumps({"x": marks}, ensure_ascii=False)):
        world.database.run("INSERT INTO inbox (envelope) VALUES (%s::text::jsonb)", content)
        world.database.run(
            "INSERT INTO dead_letters (kind, raw, queue, reason, detail, created_at)"
            " VALUES ('envelope', %s, 'inbound', 'too_deep', '', now())",
            content.encode(),
        )
    exported = run(world, "export", WHO)
    assert exported.returncode == 0, exported.stderr
    found = json.loads(exported.stdout)
    assert len(found["inbox"]) == len(found["dead_letters"]) == 1
    world.clock.advance(ALIVE_S)
    assert run(world, "erase", WHO, "--yes").returncode == 0
    for table in ("inbox", "dead_letters"):
        assert world.database.value(f"SELECT count(*) FROM {table}") == 2  # type: ignore[arg-type]


# --- a life, and what is left of it ------------------------------------------------------------


def canary(user: str) -> str:
    return f"canary-{user[-4:]}"


def live(world: World, mike: HandDrivenWorker, user: str) -> None:
    """Leave something of a person wherever something of a person may be."""
    word = canary(user)

    def said(text: str, **more: object) -> dict[str, object]:
        extra = {"metadata": {"note": word}, "typo": word, "attachments": attached}
        return world.envelope(f"{word} {text}", user=user, **extra, **more)

    attached = [
        {"url": f"https://example.org/{word}.png", "content_type": "image/png", "name": word}
    ]
    for text in ("hello", 'tool:refund {"order":42}'):
        mike.receive(said(text))
    mike.receive(said("bulk", signals=["bulk"]))
    person = world.database.value("SELECT id FROM channel_users WHERE address = %s", user)
    assert run(world, "conversations", "reset", str(person)).returncode == 0
    world.simulator.inject("400", count=2)
    mike.receive(said("poison"))
    for _ in range(2):
        world.clock.advance(16)
        mike.service.background.workers.beat(0.0)
        mike.answer()
    assert run(world, "say", str(person), f"{word} from us").returncode == 0
    mike.answer()
    mike.receive({**said("of another version"), "version": 2})
    for envelope in (said("in the inbox"), {**said("in the inbox"), "version": 2}):
        world.database.run("INSERT INTO inbox (envelope) VALUES (%s)", json.dumps(envelope))
    send_by_celery(world, said("on the queue"), {"version": 2, "who": user, "what": word})
    with Redis.from_url(world.broker_url) as redis:
        redis.lpush("inbound\x06\x166", f'{{"user": "{user}", "text": "{word}')
        redis.lpush("turns", json.dumps({"body": json.dumps([[], {"envelope": said("lost")}, {}])}))
        note = redis.lindex("inbound", 0)
        assert isinstance(note, bytes)
        redis.hset("unacked", user, json.dumps([json.loads(note), "", "inbound"]))
        redis.zadd("unacked_index", {user: 1.0})


def postgres(world: World) -> str:
    """All tables as text."""
    tables = world.database.rows(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    return "\n".join(
        f"{one['relname']} {value!r}"
        for one in tables
        for row in world.database.rows(f"SELECT * FROM {one['relname']}")
        for value in row.values()
    )


def redis_contents(world: World) -> str:
    """All keys and what they hold, with what base64 hides."""
    found: list[bytes] = []
    with Redis.from_url(world.broker_url) as redis:
        for key in redis.scan_iter():
            match redis.type(key):
                case b"list":
                    found += [key, *redis.lrange(key, 0, -1)]
                case b"hash":
                    found += [part for pair in redis.hgetall(key).items() for part in (key, *pair)]
                case b"zset":
                    found += [key, *redis.zrange(key, 0, -1)]
                case _:
                    found.append(key)
    return "\n".join(one.decode() + _unhidden(one) for one in found)


def _unhidden(entry: bytes) -> str:
    try:
        document = json.loads(entry)
        inner = document[0] if isinstance(document, list) else document
        return base64.b64decode(inner["body"]).decode(errors="replace")
    except (ValueError, KeyError, TypeError):
        return ""


def telnyx(world: World) -> str:
    kept = world.simulator._state.store._kept
    threads = [(one, world.simulator.messages(one.id)) for one in world.simulator.conversations()]
    return f"{threads} {kept} {world.simulator.sms()}"


def everything(world: World) -> str:
    return f"{postgres(world)}\n{redis_contents(world)}\n{telnyx(world)}"


def nobody_lives(world: World) -> None:
    world.clock.advance(ALIVE_S)


# --- erase -------------------------------------------------------------------------------------


def test_nothing_of_an_erased_person_is_left_anywhere(world: World) -> None:
    mike = world.worker(AGENTS)
    for user in (USER, OTHER):
        live(world, mike, user)
    nobody_lives(world)
    places = (postgres, redis_contents, telnyx)
    assert all(canary(user) in place(world) for place in places for user in (USER, OTHER))
    others = world.database.rows('SELECT * FROM message_outcomes WHERE "user" = %s', OTHER)
    would = told(world, "erase", WHO, "--dry-run")["would_be_removed"]
    assert canary(USER) in postgres(world), "a dry run changes nothing"

    removed = told(world, "erase", WHO, "--yes")["removed"]

    left = everything(world)
    assert canary(USER) not in left
    assert USER not in left
    assert removed == would | {"queue_entries": would["queue_entries"] + 1}, "and the note"
    assert removed["telnyx_conversations"] == 2
    assert {
        "inbox": 2,
        "dead_letters": 2,
        "messages": 4,
        "tool_calls": 1,
    }.items() <= removed.items()
    assert world.database.rows("SELECT FROM attempt_log WHERE channel_user_id = 1") == []
    (proof,) = world.database.rows("SELECT * FROM erasures")
    assert proof["removed"] == removed
    assert proof["finished_at"] >= proof["requested_at"]

    assert world.database.rows('SELECT * FROM message_outcomes WHERE "user" = %s', OTHER) == others
    again = told(world, "erase", f"sms:{OTHER}", "--dry-run")["would_be_removed"]
    assert again == would, "the other one, who lived the same life, has everything"
    assert run(world, "erase", WHO, "--yes").returncode == 1, "there is nobody of that address"


class Killed(BaseException):
    """As a process that is gone: nothing catches it."""


class Mortal:
    """Counts what is called on what it stands for; after the given call the process is gone."""

    def __init__(self, target: object, life: "Life") -> None:
        self._target, self._life = target, life

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        value = getattr(self._target, name)
        if not callable(value):
            return value

        def call(*args: object, **kwargs: object) -> object:
            answer = value(*args, **kwargs)
            answer = list(answer) if isinstance(answer, Iterator) else answer
            self._life.spend(name)
            return answer

        return call


@dataclass
class Life:
    calls: int

    def spend(self, name: str) -> None:
        self.calls -= 1
        if self.calls < 0:
            raise Killed(name)


def mortal(erase: EraseUser, life: Life) -> EraseUser:
    parts = ("store", "interventions", "raw", "telnyx")
    return replace(erase, **{name: Mortal(getattr(erase, name), life) for name in parts})  # type: ignore[arg-type]


def test_killed_anywhere_it_is_repeated_to_the_end(world: World) -> None:
    mike = world.worker(AGENTS)
    live(world, mike, USER)
    nobody_lives(world)
    deaths = []
    with queue_entries(world.broker_url) as queues:
        for calls in range(100):
            life = Life(calls)
            try:
                mortal(mike.operator.erase, life)(THEM, Mortal(queues, life))  # type: ignore[arg-type]
            except Killed as death:
                deaths.append(str(death))
            if not world.database.rows("SELECT FROM channel_users"):
                break
            assert world.database.value("SELECT count(*) FROM erasures") == (calls > 0)
            mike.service.background.workers.beat(0.0)
            assert mike.sweep() == 0, "nobody works on them any more"
            nobody_lives(world)
    assert set(deaths) >= {"stop", "take", "find", "delete", "delete_rows", "remove"}
    assert canary(USER) not in everything(world)
    assert world.database.value("SELECT finished_at IS NOT NULL FROM erasures")


def hooked(erase: EraseUser, before: str, do: Callable[[], object]) -> EraseUser:
    """The same, and something happens right before a step of it, the first time."""
    pending = [do]

    class Hooked:
        def __init__(self, target: object) -> None:
            self._target = target

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401
            if name == before and pending:
                pending.pop()()
            return getattr(self._target, name)

    assert is_dataclass(erase)
    stores = [one.name for one in fields(erase) if one.name in {"store", "raw", "telnyx"}]
    return replace(erase, **{name: Hooked(getattr(erase, name)) for name in stores})  # type: ignore[arg-type]


def test_what_he_writes_meanwhile_goes_with_the_rest(world: World) -> None:
    mike = world.worker()
    with queue_entries(world.broker_url) as queues:
        for step in ("at_telnyx", "find", "delete", "delete_rows", "remove"):
            accepted = mike.receive(world.envelope("canary hello"))
            assert accepted is not None

            def write() -> None:
                mike.receive(world.envelope("canary again"))
                assert mike.sweep() == 0

            removed = hooked(mike.operator.erase, step, write)(accepted.user_id, queues)
            assert removed["messages"] == 2, step
            assert removed["turns"] == 1, "it was not answered any more"
    assert "canary" not in everything(world)


def test_what_they_write_while_their_rows_go_is_a_new_beginning(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("canary hello"))
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    done: list[Said] = []
    with psycopg.connect(world.database.url) as holder:
        mike.operator.erase.store.stop(THEM)
        # Under the lock of their row, before it goes.
        holder.execute("SELECT pg_advisory_xact_lock(1)")
        world.database.run(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN OLD; END'"
        )
        world.database.run(
            "CREATE TRIGGER wait BEFORE DELETE ON channel_users"
            " FOR EACH ROW EXECUTE FUNCTION wait()"
        )
        erasing = threading.Thread(target=lambda: done.append(run(world, "erase", WHO, "--yes")))
        erasing.start()
        assert eventually(lambda: world.database.value(blocked) == 1)
        writing = threading.Thread(target=lambda: mike.receive(world.envelope("I am back")))
        writing.start()
        assert eventually(lambda: world.database.value(blocked) == 2)
        holder.rollback()
        erasing.join(20)
        writing.join(20)
    assert done[0].returncode == 0
    mike.answer()
    assert world.messages() == [
        {"text": "I am back", "state": "answered", "outcome": "answered", "late": False}
    ]
    assert world.database.value("SELECT id FROM channel_users") != 1
    assert world.inputs() == ["I am back"]
    assert "canary" not in everything(world)


@pytest.mark.parametrize(
    "hold",
    ["SELECT FROM calls FOR UPDATE", "SELECT FROM locks WHERE name = 'retention' FOR UPDATE"],
)
def test_while_rows_are_removed_their_messages_are_accepted_and_retention_is_waited_for(
    world: World, hold: LiteralString
) -> None:
    mike = world.worker()
    mike.receive(world.envelope("canary hello"))
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    done: list[Said] = []
    with psycopg.connect(world.database.url) as holder:
        holder.execute(hold)
        erasing = threading.Thread(target=lambda: done.append(run(world, "erase", WHO, "--yes")))
        erasing.start()
        assert eventually(lambda: world.database.value(blocked) == 1)
        assert mike.receive(world.envelope("canary again")) is not None
        assert world.database.value(blocked) == 1
        holder.rollback()
        erasing.join(20)
    assert done[0].returncode == 0
    assert world.database.value("SELECT removed->>'messages' FROM erasures") == "2"
    assert "canary" not in everything(world)


def test_a_call_that_telnyx_may_still_carry_out_is_waited_for(world: World) -> None:
    mike = world.worker()
    world.simulator.inject("dropped")
    mike.receive(world.envelope("canary"))
    send_by_celery(world, world.envelope("canary"))

    said = run(world, "erase", WHO, "--yes", "--wait", "0")
    assert said.returncode == 1
    assert "Telnyx may still carry out a call" in said.stderr
    assert "canary" in postgres(world)
    world.clock.advance(QUIET_S + 1)
    mike.service.background.workers.beat(0.0)
    mike.receive(world.envelope("canary too"))
    assert mike.sweep() == 0, "he was stopped all the same"

    removed = told(world, "erase", WHO, "--yes")["removed"]
    assert (removed["messages"], removed["queue_entries"]) == (2, 1), "and what the first run took"
    assert "canary" not in everything(world)
    assert world.database.rows("SELECT removed FROM erasures") == [{"removed": removed}]


def test_a_message_in_the_hands_of_a_living_worker_is_waited_for(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    with Redis.from_url(world.broker_url) as redis:
        kept = json.dumps(
            [{"body": json.dumps([[world.envelope("canary")], {}, {}])}, "", "inbound"]
        )
        redis.hset("unacked", "tag", kept)
        redis.zadd("unacked_index", {"tag": 1.0})
        said = run(world, "erase", WHO, "--yes", "--wait", "0")
        assert (said.returncode, redis.hlen("unacked")) == (1, 1)
        assert "a worker has taken a message" in said.stderr
        nobody_lives(world)
        assert told(world, "erase", WHO, "--yes")["removed"]["queue_entries"] == 1
        assert redis.keys("unacked*") == []


class OutInTheWorld:
    """A way out on which something happens during the attempt."""

    takes_key = True

    def __init__(self, world: World) -> None:
        self.world = world
        self.during: list[Said] = []

    def deliver(self, _reply: OutgoingReply) -> DeliveryOutcome:
        self.during.append(run(self.world, "erase", f"out:{USER}", "--yes", "--wait", "0"))
        return NotDelivered(reason="busy")


def test_a_reply_that_is_being_sent_is_waited_for_and_no_other_begins(world: World) -> None:
    way_out = OutInTheWorld(world)
    config = '[channels.out.delivery]\ntask = "t"\nqueue = "q"\n'
    mike = world.worker(config, channels={"out": way_out})
    for text in ("canary", "canary too"):
        mike.receive(world.envelope(text, channel="out"))
    mike.deliver()
    world.clock.advance(60)
    mike.service.background.workers.beat(0.0)
    assert len(mike.service.deliver(THEM)) == 1, "the one that has begun, and that failed"

    assert [said.returncode for said in way_out.during] == [1, 1]
    assert all("is being delivered" in said.stderr for said in way_out.during)
    (first, second) = world.database.rows("SELECT state FROM deliveries ORDER BY id")
    assert (first["state"], second["state"]) == ("pending", "cancelled")
    assert run(world, "erase", f"out:{USER}", "--yes").returncode == 0
    assert "canary" not in everything(world)


def test_where_telnyx_fails_the_rows_stay_and_it_is_repeated(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("canary"))
    unheard_of = {USER_KEY: user_tag(NAMESPACE, mike.operator.erase.store.who(THEM), "default")}
    mike.operator.erase.telnyx.create(uuid4(), "its answer was lost", unheard_of)
    world.simulator.inject("503", match=Match(endpoint=Endpoint.DELETE), skip=1)

    said = run(world, "erase", WHO, "--yes")
    assert said.returncode == 1
    assert "run it again" in said.stderr
    assert "canary" in postgres(world)
    assert world.database.value("SELECT finished_at IS NULL FROM erasures")
    for order in (("conversations", "reset", WHO), ("say", WHO, "hello")):
        assert "is being erased: run `worker erase 1` again" in run(world, *order).stderr
    assert told(world, "why", "1")["where"]["fate"] == "erasing"
    (stuck,) = json.loads(run(world, "stuck", "--after", "0", "--json").stdout)["stuck"]
    assert (stuck["kind"], stuck["command"]) == ("erasing", "worker erase 1")
    world.simulator.delete_conversation(world.simulator.conversations()[0].id)
    assert told(world, "erase", WHO, "--yes")["removed"]["telnyx_conversations"] == 1, (
        "gone is gone"
    )
    assert "canary" not in everything(world)


def test_nobody_is_erased_unasked(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    said = run(world, "erase", WHO)
    assert said.returncode == 2
    assert "give --yes" in said.stderr
    world.broker_url = "redis://127.0.0.1:1/0"
    said = run(world, "erase", WHO, "--yes")
    assert said.returncode == 1
    assert "Redis" in said.stderr
    assert world.database.rows("SELECT FROM erasures") == []
    assert world.database.value("SELECT diverged_at IS NULL FROM channel_users")


def test_many_entries_of_one_user_go_page_by_page_and_no_other_with_them(world: World) -> None:
    world.worker().receive(world.envelope("hello"))
    other = b'{"of": "' + OTHER.encode() + b'"}'
    with Redis.from_url(world.broker_url) as redis:
        for number in range(3 * _PAGE):
            of_theirs = json.dumps({"of": USER, "number": number // 2}).encode()
            redis.lpush("inbound", *[of_theirs] * (number % 5), other)
        pushed = redis.llen("inbound") - 3 * _PAGE
        would = told(world, "erase", WHO, "--dry-run")["would_be_removed"]
        assert would["queue_entries"] == pushed
        assert told(world, "erase", WHO, "--yes")["removed"]["queue_entries"] == pushed
        assert set(redis.lrange("inbound", 0, -1)) == {other}
        assert redis.llen("inbound") == 3 * _PAGE


def test_messages_on_a_queue_that_no_worker_takes_are_erased_and_other_tasks_there_stay(
    world: World,
) -> None:
    world.worker().receive(world.envelope("hello"))
    with Redis.from_url(world.broker_url) as redis:
        for who in (USER, OTHER):
            for task in ("messages.receive", "shop.order"):
                redis.lpush("celery", json.dumps({"headers": {"task": task}, "of": who}))
        assert told(world, "erase", WHO, "--yes")["removed"]["queue_entries"] == 1
        left = [json.loads(one) for one in redis.lrange("celery", 0, -1)]
        of_theirs = [one["headers"]["task"] for one in left if one["of"] == USER]
        assert (len(left), of_theirs) == (3, ["shop.order"])


def test_a_large_entry_is_never_in_memory_and_left_to_the_workers(world: World) -> None:
    mike = world.worker()
    accepted = mike.receive(world.envelope("hello"))
    assert accepted is not None
    nobody_lives(world)
    large = json.dumps({"of": USER}).encode() + b" " * 8 * 1024 * 1024
    with Redis.from_url(world.broker_url) as redis, queue_entries(world.broker_url) as queues:
        assert queues is not None
        redis.lpush("inbound", large.replace(USER.encode(), b"nobody"))
        redis.hset("unacked", "tag", large)
        redis.zadd("unacked_index", {"tag": 1.0})
        tracemalloc.start()
        removed = mike.operator.erase(accepted.user_id, queues)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert removed["queue_entries"] == 1, "the note"
        assert peak < 4 * 1024 * 1024
        redis.lpush("inbound", large)
        with pytest.raises(RetryableError, match="let the workers take it"):
            queues.remove(lambda raw: USER.encode() in raw)
        assert (redis.llen("inbound"), redis.hlen("unacked")) == (2, 0)


def test_of_a_large_row_of_the_inbox_the_first_bytes_decide(world: World) -> None:
    world.worker().receive(world.envelope("hello"))
    for name in (USER, OTHER):
        world.database.run(
            "INSERT INTO inbox (envelope)"
            " VALUES (jsonb_build_object('a', %s::text, 'x', repeat('e', 3000000)))",
            name,
        )
    database = Database(world.database.url, pool_size=1)
    kept = list(RawStore(database).scan("inbox", lambda raw: USER.encode() in raw))
    database.close()
    assert [len(raw) for _, raw in kept] == [MAX_ENTRY_BYTES]
    assert told(world, "erase", WHO, "--yes")["removed"]["inbox"] == 1
    assert world.database.value("SELECT envelope->>'a' FROM inbox") == OTHER


def test_a_redis_that_does_not_answer_is_one_line_after_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "_PATIENCE_S", 0.1)

    def remove(port: int) -> None:
        with queue_entries(f"redis://127.0.0.1:{port}/0") as queues:
            assert queues is not None
            queues.remove(lambda _: True)

    silent = socket.create_server(("127.0.0.1", 0))
    with silent, pytest.raises(CommandError, match="Redis"):
        remove(silent.getsockname()[1])


def test_an_error_of_the_reader_of_the_queues_is_not_taken_for_the_brokers() -> None:
    with pytest.raises(BrokenPipeError), queue_entries("redis://127.0.0.1:1/0"):
        raise BrokenPipeError


# --- export ------------------------------------------------------------------------------------


def test_an_export_holds_everything_of_one_person_and_nothing_of_another(world: World) -> None:
    mike = world.worker(AGENTS)
    for user in (USER, OTHER):
        live(world, mike, user)
    said = run(world, "export", WHO)
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)

    assert canary(OTHER) not in said.stdout
    assert document["channel_user"]["address"] == USER
    texts = [one["envelope"]["text"] for one in document["messages"]]
    assert [text.partition(" ")[2] for text in texts] == [
        "hello",
        'tool:refund {"order":42}',
        "bulk",
        "poison",
    ]
    first, second, third, fourth = document["turns"]
    assert canary(USER) in first["input_text"]
    assert canary(USER) in first["reply"]["text"]
    assert first["reply"]["delivery"]["state"] == "sent"
    assert first["calls"][0]["output"], "more than the text of the reply"
    assert second["tool_calls"][0]["arguments"] == '{"order":42}'
    assert third["failure"] == "refused"
    assert fourth["reply"]["source"] == "human"
    assert len(document["conversations"]) == 2
    assert [canary(USER) in one["content"] for one in document["dead_letters"]] == [True]
    assert len(document["inbox"]) == 2


def test_an_export_is_written_page_by_page_to_a_file_of_its_owner(world: World) -> None:
    mike = world.worker()
    mike.receive(world.envelope("hello"))
    world.database.run(
        "INSERT INTO messages (channel_user_id, message_id, seq, order_at, agent, envelope, state,"
        " outcome, finished_at) SELECT 1, 'n' || n, n + 1, now(), 'default', '{}', 'skipped',"
        " 'bulk', now() FROM generate_series(1, 900) n"
    )
    pieces = mike.operator.export(THEM)
    assert max(map(len, pieces)) < 4000, "no piece holds more than one row"

    out = world.folder / "person.json"
    said = run(world, "export", "1", "--out", out)
    assert said.returncode == 0, said.stderr
    assert len(json.loads(out.read_text())["messages"]) == 901
    assert out.stat().st_mode & 0o777 == 0o600
    assert run(world, "export", "1", "--out", out).returncode == 2
    assert run(world, "export", "1", "--out", world.folder / "no" / "where").returncode == 2


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ("channel_users", "turns.channel_user_id"),
        ("channel_users", "messages.channel_user_id"),
        ("turns", "messages.turn_id"),
        ("turns", "calls.turn_id"),
        ("turns", "replies.turn_id"),
        ("replies", "deliveries.reply_id"),
    ],
)
def test_an_erasure_that_forgets_a_table_fails(world: World, parent: str, child: str) -> None:
    world.worker().receive(world.envelope("hello"))
    with psycopg.connect(world.database.url) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")  # no triggers
        for table in ("deliveries", "replies", "calls", "messages", "turns", "conversations"):
            if table not in {parent, child.partition(".")[0]}:
                connection.execute(f"DELETE FROM {table}".encode())
        connection.execute("SET LOCAL session_replication_role = origin")
        with pytest.raises(psycopg.errors.ForeignKeyViolation, match=child):
            connection.execute(f"DELETE FROM {parent}".encode())
