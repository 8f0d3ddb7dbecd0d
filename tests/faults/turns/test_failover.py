"""A Postgres that has lost its newest commits: what Telnyx has of them is adopted, not repeated."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tests.support.clusters import Pair, primary_with_standby
from tests.support.world import Clock, Database, HandDrivenWorker, World, running_world
from worker.bootstrap.service import build_service
from worker.domain.errors import DatabaseAwayError
from worker.domain.ids import ChannelUserId
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator import SimulatorConfig

AGENTS = '[channels.web.delivery]\ntask = "replies.store"\nqueue = "outbound"\n'
SETTLE_S = 16.0
OTHERS = [f"user{number}@example.org" for number in range(10)]


def keys(world: World) -> dict[str, str]:
    """The key that each reply was delivered with, by its text."""
    found = world.database.rows(
        "SELECT r.text, d.idempotency_key FROM deliveries d JOIN replies r ON r.id = d.reply_id"
    )
    return {row["text"]: str(row["idempotency_key"]) for row in found}


def ids(world: World) -> set[tuple[str, int]]:
    """The newest id of each table whose ids leave the database."""
    tables = ("messages", "turns", "replies", "deliveries")
    return {(one, world.database.value(f"SELECT max(id) FROM {one}")) for one in tables}


def beat(worker: HandDrivenWorker) -> None:
    worker.service.background.watch.beat()


def settle(world: World, worker: HandDrivenWorker) -> None:
    """Wait as long as a message that Telnyx does not have waits after a loss."""
    world.clock.advance(SETTLE_S)
    worker.service.background.workers.beat()
    worker.answer()


@contextmanager
def restored(
    world: World, server: EmbeddedPostgres, worker: HandDrivenWorker
) -> Iterator[Callable[[], None]]:
    """A backup of the world's database as it is now; call what this gives to restore it."""
    name, backup = world.database.value("SELECT current_database()"), f"backup_{uuid4().hex[:12]}"

    def run(*statements: str) -> None:
        with psycopg.connect(server.url, autocommit=True) as admin:
            for statement in statements:
                admin.execute(statement.encode())

    def forget() -> None:
        run(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        )

    forget()
    run(f"CREATE DATABASE {backup} TEMPLATE {name} STRATEGY file_copy")

    def restore() -> None:
        forget()
        run(f"ALTER DATABASE {name} RENAME TO {backup}_lost")
        run(f"ALTER DATABASE {backup} RENAME TO {name}")
        again(world, worker)

    again(world, worker)
    try:
        yield restore
    finally:
        world.database.close()
    run(f"DROP DATABASE IF EXISTS {backup}", f"DROP DATABASE IF EXISTS {backup}_lost WITH (FORCE)")


def again(world: World, worker: HandDrivenWorker, url: str | None = None) -> None:
    """Connect again: the test itself, and both pools of the worker."""
    world.database.close()
    world.database = Database(url or world.database.url)
    world.clock = Clock(world.database)
    away = worker.service.background.workers.forget_dead
    for use in (away, partial(worker.service.answer, ChannelUserId(0))):
        with suppress(DatabaseAwayError):
            use()


def test_what_a_restored_backup_has_lost_is_not_sent_or_delivered_again(
    world: World, shared_postgres: EmbeddedPostgres
) -> None:
    mike = world.worker(AGENTS)
    assert world.compare_with_telnyx(mike)
    for user in OTHERS:
        mike.receive(world.envelope(f"{user} before", user=user))
    with restored(world, shared_postgres, mike) as restore:
        envelopes = [
            world.envelope(f"{user} {text}", user=user)
            for text in ("lost", "lost too")
            for user in (*OTHERS, "new@example.org")
        ]
        beat(mike)
        for envelope in envelopes:
            mike.receive(envelope)
        before = keys(world)

        restore()
        beat(mike)
        for envelope in envelopes:
            mike.receive(envelope)
        after = keys(world)
        assert after == before, "receivers can drop what comes again"
        assert len(world.inputs()) == len(set(world.inputs())) == len(OTHERS) * 3 + 2
        assert {row["source"] for row in world.replies()} == {"call", "adopted"}

        for user in OTHERS:
            mike.receive(world.envelope(f"{user} after", user=user))
        assert [row["outcome"] for row in world.messages()][-1] == "answered", "no one waits again"
        assert world.inputs()[:4] == [f"{OTHERS[0]} {at}" for at in TEXTS]


TEXTS = ("before", "lost", "lost too", "after")


def test_lost_turns_that_come_again_as_one_are_adopted_as_one(
    world: World, shared_postgres: EmbeddedPostgres
) -> None:
    mike = world.worker(AGENTS)
    mike.receive(world.envelope("one"))
    beat(mike)
    with restored(world, shared_postgres, mike) as restore:
        envelopes = [world.envelope("two"), world.envelope("three")]
        for envelope in envelopes:
            mike.receive(envelope)
        beat(mike)
        last = keys(world)
        restore()
        beat(mike)
        for envelope in envelopes:
            mike.accept_only(envelope)
        mike.answer()
        assert world.inputs() == ["one", "two", "three"]
        assert [row["source"] for row in world.replies()] == ["call", "adopted"]
        assert list(keys(world).items())[-1] == list(last.items())[-1]


def test_a_lost_message_that_does_not_come_again_stops_nobody(
    world: World, shared_postgres: EmbeddedPostgres
) -> None:
    mike = world.worker(AGENTS)
    mike.receive(world.envelope("one"))
    beat(mike)
    with restored(world, shared_postgres, mike) as restore:
        mike.receive(world.envelope("nobody will send this again"))
        lost = ids(world)
        beat(mike)
        restore()
        beat(mike)
        mike.receive(world.envelope("three"))
        assert not lost & ids(world), "mails, tools and Telnyx know them already"
        assert len(world.inputs()) == 2, "it may still be on its way to Telnyx"
        settle(world, mike)
        mike.receive(world.envelope("four"))
        assert world.inputs()[2:] == ["three", "four"]
        assert {row["outcome"] for row in world.messages()} == {"answered"}


@pytest.fixture
def pair(sandbox_dir: Path) -> Iterator[Pair]:
    sandbox_dir.mkdir(mode=0o711)
    with primary_with_standby(sandbox_dir) as made:
        yield made


@pytest.mark.parametrize("is_synchronous", [False, True], ids=["asynchronous", "synchronous"])
def test_a_standby_takes_over_and_nothing_is_sent_twice(
    pair: Pair, tmp_path: Path, is_synchronous: bool
) -> None:
    if is_synchronous:
        pair.commit_on_both()
    with running_world(pair.url, tmp_path, SimulatorConfig()) as world:
        mike = world.worker(AGENTS)
        beat(mike)
        mike.receive(world.envelope("one"))
        two = world.envelope("two")
        if not is_synchronous:
            pair.wait_until_replayed()
            pair.standby.stop()
        mike.receive(two)
        before = keys(world)
        pair.fail_over()
        again(world, mike, pair.url_of_standby)
        had = world.database.value("SELECT count(*) FROM messages")
        assert had == 1 + is_synchronous, "only a synchronous standby has everything"

        mike.receive(two)
        replaced = "SELECT replaced_at FROM cluster"
        assert world.database.value(replaced) is not None, "before a heartbeat, by its connection"
        assert (world.inputs(), keys(world)) == (["one", "two"], before)
        mike.receive(world.envelope("three"))
        settle(world, mike)
        assert world.inputs() == ["one", "two", "three"]
        assert {row["outcome"] for row in world.messages()} == {"answered"}
        world.database.close()


def test_a_process_that_starts_after_the_standby_took_over_sees_it(
    world: World, shared_postgres: EmbeddedPostgres
) -> None:
    beat(world.worker())
    world.database.run("UPDATE cluster SET identity = replace(identity, ' 0000000', ' 0000001')")
    beat(world.worker())
    assert world.database.value("SELECT replaced_at FROM cluster") is not None
    world.database.run("UPDATE cluster SET replaced_at = NULL")
    beat(world.worker())
    assert world.database.value("SELECT replaced_at FROM cluster") is None, "it is known now"


def test_a_role_without_the_rights_beats_all_the_same(world: World) -> None:
    mike = world.worker()
    name = f"plain_{world.database.value('SELECT current_database()')}"
    for statement in (
        f"CREATE ROLE {name} LOGIN",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}",
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC",
    ):
        world.database.run(statement)
    try:
        url = world.database.url.replace("postgres@", f"{name}@", 1)
        plain = replace(world.settings(), database_url=url)
        service = build_service(plain, broker=mike.broker)
        service.background.watch.beat()
        service.background.watch.beat()
        service.close()
        assert world.database.value("SELECT identity FROM cluster").isdigit()
        with psycopg.connect(url) as connection:
            (run,) = connection.execute("SELECT postgres_run()").fetchone() or ("none",)
        assert run is None, "so people are looked for at Telnyx"
    finally:
        world.database.run("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")
        world.database.run(f"DROP OWNED BY {name}")
        world.database.run(f"DROP ROLE {name}")
