"""Producers that speak SQL: what the function takes, whose transaction it is, who drains it."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, cast

import psycopg
import pytest
from psycopg import errors, sql

from tests.support.processes import eventually
from tests.support.world import RecordingBroker, World
from worker.bootstrap.service import build_service
from worker.domain.errors import BrokerAwayError, DatabaseAwayError
from worker.domain.messages import NewMessage
from worker.domain.routing import Agent, Routing
from worker.handlers.intake.route import parse_and_route
from worker.store.sql import Row

ENQUEUE = "SELECT enqueue_message(%s::jsonb)"


@pytest.fixture
def producer(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url) as connection:
        yield connection


def envelope(number: int, **fields: object) -> dict[str, object]:
    made = {"version": 1, "channel": "web", "user": "ann", "message_id": f"m-{number}"}
    return {**made, "text": f"words {number}", **fields}


def put(producer: psycopg.Connection[Any], *envelopes: object) -> list[int]:
    ids = []
    for one in envelopes:
        row = producer.execute(ENQUEUE, [json.dumps(one)]).fetchone()
        assert row is not None
        ids.append(row[0])
    return ids


def accepted(world: World) -> list[str]:
    rows = world.database.rows("SELECT message_id FROM messages ORDER BY id")
    return [row["message_id"] for row in rows]


def drained(world: World) -> World:
    worker = world.worker()
    while worker.service.background.drain_inbox():
        pass
    assert world.database.value("SELECT count(*) FROM inbox") == 0
    return world


def test_what_is_committed_is_accepted_in_order_and_answered(
    world: World, producer: psycopg.Connection[Any]
) -> None:
    ids = put(producer, *(envelope(number) for number in range(120)))
    producer.commit()
    drained(world)

    assert ids == sorted(ids)
    assert accepted(world) == [f"m-{number}" for number in range(120)]
    world.worker().answer()
    assert {row["outcome"] for row in world.messages()} == {"answered"}


def test_the_producers_rollback_leaves_nothing(
    world: World, producer: psycopg.Connection[Any]
) -> None:
    put(producer, envelope(1))
    producer.rollback()
    drained(world)

    assert accepted(world) == []


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ([], "envelope: give a JSON object"),
        (None, "envelope: give a JSON object"),
        (envelope(1, version=2), "version: give 1"),
        (envelope(1, version="1"), "version: give 1"),
        (envelope(1, channel="Not A Slug"), "channel: give 1 to 32"),
        (envelope(1, user=""), "user: give 1 to 320"),
        (envelope(1, user="x" * 321), "user: give 1 to 320"),
        (envelope(1, message_id=7), "message_id: give 1 to 998"),
        (envelope(1, text="x" * 1_100_000), "envelope: at most 1048576 bytes"),
    ],
)
def test_what_identifies_no_message_is_refused_at_once(
    producer: psycopg.Connection[Any], bad: object, said: str
) -> None:
    with pytest.raises(errors.InvalidParameterValue, match=said):
        put(producer, bad)


def test_what_is_wrong_otherwise_is_a_dead_letter_and_stops_nothing(
    world: World, producer: psycopg.Connection[Any]
) -> None:
    put(producer, envelope(1), envelope(2, text=""), envelope(3, agent="nobody"), envelope(4))
    producer.commit()
    drained(world)

    assert accepted(world) == ["m-1", "m-4"]
    letters = world.database.rows("SELECT reason, detail, queue FROM dead_letters ORDER BY id")
    assert [one["reason"] for one in letters] == ["envelope_invalid", "unknown_agent"]
    assert {one["queue"] for one in letters} == {"inbox"}


HOSTILE = {
    "deep": (envelope(2, x="NESTED 300"), "too_deep"),
    "deeper": (envelope(2, x="NESTED 3000"), "too_deep"),
    "a level too deep": (envelope(2, x="NESTED 62"), "too_deep"),
    "many values": (envelope(2, x=[0] * 70_000), "too_large"),
    "long": (envelope(2, x="x" * 1_100_000), "too_large"),
    "infinite": (envelope(2, x=10**400), None),
    "infinite, as a fraction": (envelope(2, x="1.5e400"), None),
    "many digits": (envelope(2, x=0) | {"x": "DIGITS"}, "body_not_json"),
    "a list": ([], "envelope_invalid"),
    "nothing": (None, "envelope_invalid"),
    "no text": ("text", "envelope_invalid"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_row_that_cannot_be_read_is_set_aside_with_its_bytes_and_the_next_is_taken(
    world: World, producer: psycopg.Connection[Any], name: str
) -> None:
    document, reason = HOSTILE[name]
    text = json.dumps(document).replace('"DIGITS"', "9" * 5000).replace('"1.5e400"', "1.5e400")
    text = re.sub(r'"NESTED (\d+)"', lambda m: "[" * int(m[1]) + "]" * int(m[1]), text)
    put(producer, envelope(1))
    producer.execute("INSERT INTO inbox (envelope) VALUES (%s::text::jsonb)", [text])
    put(producer, envelope(3))
    producer.commit()
    stored = producer.execute("SELECT envelope::text FROM inbox ORDER BY id").fetchall()[1][0]
    producer.commit()
    drained(world)

    letters = world.database.rows("SELECT reason, raw, queue FROM dead_letters")
    if reason is None:
        assert accepted(world) == ["m-1", "m-2", "m-3"]
        assert letters == []
    else:
        assert accepted(world) == ["m-1", "m-3"]
        assert letters == [{"reason": reason, "raw": stored.encode(), "queue": "inbox"}]


def test_of_a_very_large_row_the_head_length_and_hash_are_kept(
    world: World, producer: psycopg.Connection[Any]
) -> None:
    put(producer, envelope(1))
    row = producer.execute(
        "INSERT INTO inbox (envelope) VALUES (jsonb_build_object('x', repeat('é', 20000000)))"
        " RETURNING octet_length(envelope::text) AS size, encode(sha256(convert_to("
        " envelope::text, 'UTF8')), 'hex'), convert_to(envelope::text, 'UTF8')"
    ).fetchone()
    assert row is not None
    put(producer, *(envelope(number) for number in range(2, 5)))
    producer.commit()
    drained(world)

    assert accepted(world) == ["m-1", "m-2", "m-3", "m-4"]
    (letter,) = world.database.rows("SELECT reason, raw, detail FROM dead_letters")
    size, digest, whole = row
    assert letter["detail"] == f"{size} bytes, sha256 {digest}; the first 65536 are kept"
    assert (letter["reason"], letter["raw"]) == ("too_large", whole[:65536])


class Exploding:
    """A configuration in which a defect waits for the message m-2."""

    def __init__(self, routing: Routing, error: BaseException) -> None:
        self._routing = routing
        self._error = error

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 # whatever the real one has
        return getattr(self._routing, name)

    def agent_for(self, *, channel: str, recipient: str, named: str | None) -> Agent:
        if recipient == "explode":
            raise self._error
        return self._routing.agent_for(channel=channel, recipient=recipient, named=named)


@pytest.mark.parametrize(
    "error",
    [
        RecursionError(),
        MemoryError(),
        KeyError("words 2"),
        ValueError("words 2"),
        UnicodeEncodeError("utf-8", "words 2", 0, 1, "surrogates not allowed"),
        psycopg.errors.UniqueViolation(),
        psycopg.errors.ProgramLimitExceeded(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_row_raises_the_others_are_taken(
    world: World, producer: psycopg.Connection[Any], error: Exception
) -> None:
    put(producer, *(envelope(number) for number in (1, 2, 3)))
    producer.execute(
        'UPDATE inbox SET envelope = envelope || \'{"recipient": "explode"}\''
        " WHERE envelope->>'message_id' = 'm-2'"
    )
    producer.commit()
    drain = world.worker().service.background.drain_inbox
    exploding = cast("Routing", Exploding(drain.routing(), error))
    assert replace(drain, routing=lambda: exploding)()
    assert accepted(world) == ["m-1", "m-3"]
    (letter,) = world.database.rows("SELECT reason, detail, raw FROM dead_letters")
    assert letter["reason"] in {"not_understood", "not_storable"}
    assert "words" not in letter["detail"]
    assert json.loads(letter["raw"])["message_id"] == "m-2"
    assert world.database.value("SELECT count(*) FROM inbox") == 0


def test_a_postgres_that_goes_away_sets_no_row_aside(
    world: World, producer: psycopg.Connection[Any]
) -> None:
    put(producer, envelope(1), envelope(2, recipient="explode"))
    producer.commit()
    drain = world.worker().service.background.drain_inbox
    away = Exploding(drain.routing(), psycopg.OperationalError("the connection is lost"))
    with pytest.raises(DatabaseAwayError):
        replace(drain, routing=lambda: cast("Routing", away))()
    assert world.database.value("SELECT count(*) FROM inbox") == 2
    assert world.database.value("SELECT count(*) FROM dead_letters") == 0


def test_the_same_message_again_changes_nothing_and_another_body_is_a_conflict(
    world: World, producer: psycopg.Connection[Any]
) -> None:
    put(producer, envelope(1), envelope(1), envelope(1, text="other words"))
    producer.commit()
    drained(world)

    rows = world.database.rows("SELECT envelope->>'text' AS text, conflicts FROM messages")
    assert rows == [{"text": "words 1", "conflicts": 1}]


def test_two_producers_in_opposite_order_do_not_wait_for_each_other(
    database_url: str, world: World
) -> None:
    with (
        psycopg.connect(database_url) as one,
        psycopg.connect(database_url) as other,
    ):
        put(one, envelope(1, user="ann"))
        put(other, envelope(2, user="bob"))
        put(one, envelope(3, user="bob"))
        put(other, envelope(4, user="ann"))
    drained(world)

    assert sorted(accepted(world)) == ["m-1", "m-2", "m-3", "m-4"]


def test_only_one_worker_drains_at_a_time(
    database_url: str, world: World, producer: psycopg.Connection[Any]
) -> None:
    put(producer, envelope(1))
    producer.commit()
    mike = world.worker()
    with psycopg.connect(database_url) as somebody:
        somebody.execute("SELECT FROM locks WHERE name = 'inbox' FOR UPDATE")
        assert not mike.service.background.drain_inbox()
    assert mike.service.background.drain_inbox()
    assert accepted(world) == ["m-1"]


def test_a_role_may_put_messages_in_and_read_nothing(database_url: str, world: World) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        role = "producer_" + database_url.rpartition("/")[2].partition("?")[0]
        owner.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        try:
            owner.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            with pytest.raises(errors.InsufficientPrivilege):
                put(owner, envelope(1))
            owner.execute("RESET ROLE")
            owner.execute(
                sql.SQL("GRANT EXECUTE ON FUNCTION enqueue_message(jsonb) TO {}").format(
                    sql.Identifier(role)
                )
            )
            owner.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            put(owner, envelope(1))
            for table in ("inbox", "messages", "message_outcomes", "replies"):
                with pytest.raises(errors.InsufficientPrivilege):
                    owner.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)))
            owner.execute("RESET ROLE")
        finally:
            owner.execute("RESET ROLE")
            owner.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    drained(world)
    assert accepted(world) == ["m-1"]


class NoBroker(RecordingBroker):
    """Redis is away."""

    def wake(self, users: object) -> None:  # noqa: ARG002 - the port has it
        raise BrokerAwayError("away")

    def submit(self, work: Callable[..., None], *args: object) -> Future[None]:
        work(*args)
        return Future()


def test_without_redis_a_notify_is_enough(world: World, producer: psycopg.Connection[Any]) -> None:
    """The threads of a worker: a message that is put in is heard, drained, claimed, answered."""
    world.database.run(
        "CREATE OR REPLACE FUNCTION service_now() RETURNS timestamptz LANGUAGE sql"
        " STABLE AS 'SELECT statement_timestamp()'"
    )
    service = build_service(world.settings(), broker=NoBroker())
    service.background.start()
    try:
        for number in range(5):
            put(producer, envelope(number))
            producer.commit()
        assert eventually(lambda: len(world.replies()) > 0 and not pending(world))
    finally:
        service.background.stop()
        service.close()
    assert accepted(world) == [f"m-{number}" for number in range(5)]


def pending(world: World) -> list[object]:
    return [row for row in world.messages() if row["outcome"] is None]


def test_a_claim_that_waited_while_more_was_accepted_claims_again(
    world: World, producer: psycopg.Connection[Any]
) -> None:
    mike = world.worker()
    accepted = mike.accept_only(envelope(1))
    assert accepted is not None
    put(producer, envelope(2), envelope(3))
    producer.commit()
    drain = mike.service.background.drain_inbox
    answering = threading.Thread(target=mike.service.answer, args=(accepted.user_id,))

    def judge(row: Row) -> tuple[NewMessage, None]:
        message = parse_and_route(json.loads(row.content), drain.routing())
        if message.message_id == "m-3":  # the second has locked the row
            answering.start()
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            assert eventually(lambda: world.database.value(waiting) > 0)
        return message, None

    drain.inbox.drain(judge)
    answering.join()
    assert world.inputs() == ["words 1\nwords 2\nwords 3"]


def test_the_view_says_what_became_of_each_message(
    world: World, producer: psycopg.Connection[Any]
) -> None:
    put(producer, envelope(1), envelope(2, user="bob", signals=["opt_out"]))
    producer.commit()
    drained(world)
    world.worker().answer()

    rows = world.database.rows("SELECT * FROM message_outcomes ORDER BY message")
    answered, skipped = rows
    assert (answered["user"], answered["message_id"], answered["outcome"]) == (
        "ann",
        "m-1",
        "answered",
    )
    assert answered["text"] == world.replies()[0]["text"]
    assert (answered["source"], answered["delivery"]) == ("call", "sent")
    assert (skipped["outcome"], skipped["text"], skipped["delivery"]) == ("opt_out", None, None)


def test_a_listener_that_lost_its_connection_listens_again(
    world: World, producer: psycopg.Connection[Any]
) -> None:
    listener = world.worker().service.background.listener
    listener.wait(listens=True)
    world.database.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'worker-inbox' AND datname = current_database()"
    )
    for _ in range(3):  # notices what the server says, and that it is gone, and listens again
        listener.wait(listens=True)
    put(producer, envelope(1))
    producer.commit()
    listener.wait(listens=True)


def test_a_hundred_copies_through_both_ways_in_at_once_are_one_message_and_one_reply(
    world: World, database_url: str
) -> None:
    workers = [world.worker() for _ in range(3)]
    ready = threading.Barrier(20)

    def by_sql() -> None:
        with psycopg.connect(database_url, autocommit=True) as own:
            ready.wait(10)
            put(own, *(envelope(1) for _ in range(5)))

    def by_broker(number: int) -> None:
        ready.wait(10)
        for _ in range(5):
            workers[number % 3].accept_only(envelope(1))

    def drain(number: int) -> None:
        ready.wait(10)
        for _ in range(10):
            workers[number].service.background.drain_inbox()

    threads = [threading.Thread(target=by_sql) for _ in range(10)]
    threads += [threading.Thread(target=by_broker, args=(number,)) for number in range(7)]
    threads += [threading.Thread(target=drain, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drained(world)
    workers[0].accept_only(envelope(1, text="other words"))
    workers[0].answer()

    rows = world.database.rows("SELECT message_id, conflicts, outcome FROM messages")
    assert rows == [{"message_id": "m-1", "conflicts": 1, "outcome": "answered"}]
    assert world.inputs() == ["words 1"]
    assert len(world.replies()) == 1
