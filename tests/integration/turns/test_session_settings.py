"""Whatever a role's or a database's defaults are, a message is answered; also through poolers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Final

import psycopg
import pytest

from message_worker_client import Producer, wait_for_reply
from tests.support.pgbouncer import IS_HERE, pgbouncer
from tests.support.tcp_proxy import postgres_socket
from tests.support.transaction_pooler import transaction_pooler
from tests.support.world import HandDrivenWorker, World
from worker.domain.errors import DatabaseAwayError
from worker.store.database import Database
from worker.store.sql import sql

STRANGE: Final = {
    "DateStyle": "German",
    "client_encoding": "LATIN1",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "TimeZone": "Asia/Kathmandu",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "extra_float_digits": "-15",
    "synchronous_commit": "off",
}
ALONE: Final = [
    {"DateStyle": "German"},
    {"DateStyle": "SQL, DMY"},
    {"client_encoding": "LATIN1"},
    {"IntervalStyle": "iso_8601"},
    {"default_transaction_isolation": "serializable"},
    STRANGE,
]
DIRECTLY, POOLED, BOUNCED = "directly", "a pooler that drops options", "PgBouncer"
EMOJI: Final = "hello \N{GRINNING FACE} \N{CYRILLIC CAPITAL LETTER YA}"


@contextmanager
def way_to(database_url: str, way: str) -> Iterator[str]:
    name = database_url.partition("@/")[2].partition("?")[0]
    poolers: dict[str, Callable[[Path], AbstractContextManager[int]]] = {
        POOLED: lambda target: transaction_pooler(target, options="dropped"),
        BOUNCED: pgbouncer,
    }
    if way == DIRECTLY:
        yield database_url
        return
    if way == BOUNCED and not IS_HERE:
        pytest.skip("PgBouncer is not installed")
    with poolers[way](postgres_socket(database_url)) as port:
        yield f"postgresql://postgres@127.0.0.1:{port}/{name}?gssencmode=disable&sslmode=disable"


@contextmanager
def by_default(world: World, **settings: str) -> Iterator[None]:
    """The database has these defaults for new sessions."""
    name = world.database.value("SELECT current_database()")
    for setting, value in settings.items():
        world.database.run(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    try:
        yield
    finally:
        world.database.run(f"ALTER DATABASE {name} RESET ALL")


def worker_at(world: World, url: str) -> HandDrivenWorker:
    class Elsewhere(World):
        def settings(self, agents_file: Path | None = None) -> object:  # type: ignore[override]
            return replace(World.settings(self, agents_file), database_url=url)

    there = Elsewhere(
        database=world.database,
        clock=world.clock,
        simulator=world.simulator,
        folder=world.folder,
        _opened=world._opened,
    )
    return there.worker()


@pytest.mark.parametrize("way", [DIRECTLY, POOLED, BOUNCED])
@pytest.mark.parametrize("defaults", ALONE, ids=lambda one: "+".join(one)[:40])
def test_a_message_is_answered_whatever_the_defaults_are(
    world: World, way: str, defaults: dict[str, str]
) -> None:
    with by_default(world, **defaults), way_to(world.database.url, way) as url:
        mike = worker_at(world, url)
        mike.receive(world.envelope(EMOJI))
        with Producer(database_url=url) as producer:
            producer.send(channel="web", user="ann", message_id="sql-1", text=EMOJI)
        while mike.service.background.drain_inbox():
            pass
        mike.answer()
        found = wait_for_reply(url, channel="web", user="ann", message_id="sql-1", timeout_s=5)
    assert [one["text"] for one in world.messages()] == [EMOJI, EMOJI]
    assert {one["outcome"] for one in world.messages()} == {"answered"}
    assert found is not None
    assert found.outcome == "answered"
    assert found.accepted_at.astimezone(UTC) <= found.finished_at.astimezone(UTC)


@pytest.mark.parametrize("way", [DIRECTLY, POOLED, BOUNCED])
def test_the_session_is_what_the_stores_rely_on(world: World, way: str) -> None:
    names = ("DateStyle", "client_encoding", "transaction_isolation", "synchronous_commit")
    asked = sql(
        "SELECT " + ", ".join(f"current_setting('{n}') AS {n}" for n in (*names, "IntervalStyle"))
    )
    with by_default(world, **STRANGE), way_to(world.database.url, way) as url:
        database = Database(url, pool_size=1)
        try:
            for opened in (database.statement, database.transaction):
                with opened() as connection:
                    row = connection.execute(asked).one()
                assert row[0].startswith("ISO")
                assert tuple(row)[1:] == ("UTF8", "read committed", "on", "postgres")
        finally:
            database.close()


def test_what_a_session_set_is_not_left_to_others_of_the_pool(world: World) -> None:
    with by_default(world, **STRANGE), way_to(world.database.url, POOLED) as url:
        mike = worker_at(world, url)
        mike.receive(world.envelope(EMOJI))
        mike.answer()
        with psycopg.connect(url, autocommit=True) as other:
            found = {other.execute("SHOW DateStyle").fetchone() for _ in range(8)}
    assert found == {("German, DMY",)}


def test_a_database_that_takes_no_writes_for_a_while_makes_no_dead_letters(world: World) -> None:
    mike = world.worker()
    name = world.database.value("SELECT current_database()")
    hello = world.envelope("hello")
    world.database.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(DatabaseAwayError, match="ReadOnlySqlTransaction 25006"):
        world.worker(beats=False).receive(hello)
    world.database.run("SET default_transaction_read_only = off")
    world.database.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    mike.receive(hello)
    assert world.database.rows("SELECT FROM dead_letters") == []
    assert {one["outcome"] for one in world.messages()} == {"answered"}
