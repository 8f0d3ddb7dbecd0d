"""Messages with a `not_before`: they wait in Postgres, and nobody waits for them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from tests.support.world import HandDrivenWorker, World
from worker.bootstrap.reports import open_database
from worker.store.reports.status import StatusStore
from worker.store.rows import INBOX_IS_DUE


def later(world: World, seconds: float) -> str:
    now: datetime = world.database.value("SELECT service_now()")
    return (now + timedelta(seconds=seconds)).astimezone(UTC).isoformat()


def look(worker: HandDrivenWorker) -> None:
    """Drain the inbox, and answer those who are due."""
    while worker.service.background.drain_inbox():
        pass
    worker.answer()


def held(world: World) -> int:
    count: int = world.database.value("SELECT count(*) FROM inbox WHERE not_before IS NOT NULL")
    return count


def test_it_is_answered_then_and_holds_up_nobody(world: World) -> None:
    worker = world.worker()
    worker.receive(world.envelope("remind me", not_before=later(world, 60)))
    worker.receive(world.envelope("now"))
    look(worker)
    assert (world.inputs(), held(world)) == (["now"], 1)

    world.clock.advance(59)
    look(worker)
    assert (world.inputs(), held(world)) == (["now"], 1)
    world.clock.advance(2)
    look(worker)
    assert (world.inputs(), held(world)) == (["now", "remind me"], 0)
    assert [row["late"] for row in world.database.rows("SELECT late FROM messages")] == [False] * 2


def test_a_row_of_a_sql_producer_keeps_its_id_while_it_waits(
    world: World, database_url: str
) -> None:
    worker = world.worker()
    rows: list[dict[str, Any]] = [
        world.envelope("later", not_before=later(world, 3600)),
        world.envelope("now"),
    ]
    with psycopg.connect(database_url) as producer:
        ids = [
            producer.execute("SELECT enqueue_message(%s::jsonb)", [json.dumps(row)]).fetchone()
            for row in rows
        ]
    look(worker)
    assert world.inputs() == ["now"]
    assert [(row["id"],) for row in world.database.rows("SELECT id FROM inbox")] == ids[:1]
    world.clock.advance(3601)
    look(worker)
    assert world.inputs() == ["now", "later"]


def test_what_comes_again_while_it_waits_is_one_message(world: World) -> None:
    worker = world.worker()
    envelope = world.envelope("once", not_before=later(world, 60))
    worker.receive(envelope)
    worker.receive(envelope)
    world.clock.advance(61)
    look(worker)
    worker.receive(envelope)
    look(worker)
    assert (world.inputs(), len(world.messages())) == (["once"], 1)


def test_its_age_counts_from_then_and_expires_at_still_ends_it(world: World) -> None:
    worker = world.worker("[channels.sms]\nmax_age_s = 30\n")
    sent_at, then = later(world, -5), later(world, 60)
    worker.receive(world.envelope("fresh then", sent_at=sent_at, not_before=then))
    worker.receive(
        world.envelope("too late", user="+15550002", not_before=then, expires_at=later(world, 30))
    )
    world.clock.advance(70)
    look(worker)
    assert [row["outcome"] for row in world.messages()] == ["answered", "expired"]


def test_what_waits_for_its_time_is_no_backlog(world: World, database_url: str) -> None:
    worker = world.worker()
    worker.receive(world.envelope("later", not_before=later(world, 3600)))
    world.clock.advance(1800)
    with open_database(database_url) as database:
        assert StatusStore(database).inbox() is None
        world.clock.advance(1900)
        waiting = StatusStore(database).inbox()
    assert waiting is not None
    assert (waiting.count, round(waiting.age_s / 100)) == (1, 1)


def test_ten_thousand_that_wait_cost_a_look_at_the_inbox_nothing(world: World) -> None:
    world.database.run(
        "INSERT INTO inbox (envelope, not_before) SELECT '{}', service_now() + interval '1 day'"
        " FROM generate_series(1, 10000)"
    )
    world.database.run("ANALYZE inbox")
    plan = "\n".join(
        row["QUERY PLAN"]
        for row in world.database.rows(
            f"EXPLAIN SELECT FROM inbox WHERE {INBOX_IS_DUE}"
            " ORDER BY coalesce(not_before, '-infinity'), id LIMIT 50"
        )
    )
    assert "ix_inbox_due" in plan
    assert "Sort" not in plan
