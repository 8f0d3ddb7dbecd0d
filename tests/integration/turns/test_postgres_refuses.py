"""While Postgres refuses work for a reason of its own, messages wait, and none is lost."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import LiteralString

import psycopg
import pytest
from psycopg.errors import lookup

from tests.support.world import HandDrivenWorker, World
from worker.bootstrap.service import build_service
from worker.domain.errors import DatabaseAwayError
from worker.store.sqlstates import is_away

Steps = tuple[LiteralString, ...]
NEW_SESSIONS: LiteralString = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{role}'"
)
FAULTS: dict[str, tuple[Steps, Steps, str | None]] = {
    "read-only": (
        ("ALTER ROLE {role} SET default_transaction_read_only = on", NEW_SESSIONS),
        ("ALTER ROLE {role} RESET default_transaction_read_only", NEW_SESSIONS),
        "25006",
    ),
    "a right is missing": (
        ("REVOKE INSERT, UPDATE ON ALL TABLES IN SCHEMA public FROM {role}",),
        ("GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}",),
        "42501",
    ),
    "no connection left": (
        ("ALTER ROLE {role} CONNECTION LIMIT 0", NEW_SESSIONS),
        ("ALTER ROLE {role} CONNECTION LIMIT -1",),
        None,
    ),
    "a user refused": (
        ("ALTER ROLE {role} NOLOGIN", NEW_SESSIONS),
        ("ALTER ROLE {role} LOGIN",),
        None,
    ),
    "a table is away": (
        ("ALTER TABLE workers RENAME TO workers_1", "ALTER TABLE messages RENAME TO messages_1"),
        ("ALTER TABLE workers_1 RENAME TO workers", "ALTER TABLE messages_1 RENAME TO messages"),
        "42P01",
    ),
    "a column is away": (
        (
            "ALTER TABLE workers RENAME alive_until TO alive_1",
            "ALTER TABLE messages RENAME envelope TO envelope_1",
        ),
        (
            "ALTER TABLE workers RENAME alive_1 TO alive_until",
            "ALTER TABLE messages RENAME envelope_1 TO envelope",
        ),
        "42703",
    ),
}


@dataclass
class Role:
    """A role that the service connects as; the tables are somebody else's."""

    world: World
    name: str

    def run(self, steps: Steps) -> None:
        for step in steps:
            self.world.database.run(step.replace("{role}", self.name))

    def worker(self) -> HandDrivenWorker:
        url = self.world.database.url.replace("postgres@", f"{self.name}@", 1)
        mike = self.world.worker(beats=False)
        settings = replace(self.world.settings(), database_url=url)
        return replace(mike, service=build_service(settings, broker=mike.broker))


@pytest.fixture
def role(world: World) -> Iterator[Role]:
    made = Role(world, f"service_{world.database.value('SELECT current_database()')}")
    made.run(
        (
            "CREATE ROLE {role} LOGIN",
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
            "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
        )
    )
    yield made
    made.run(("DROP OWNED BY {role}", "DROP ROLE {role}"))


@pytest.mark.parametrize("fault", FAULTS)
def test_messages_wait_while_postgres_refuses_work(world: World, role: Role, fault: str) -> None:
    broken, healed, code = FAULTS[fault]
    mike = role.worker()
    mike.service.background.workers.beat()
    mike.receive(world.envelope("one"))
    mike.accept_only(world.envelope("two"))

    starting = role.worker()
    role.run(broken)
    three = world.envelope("three")
    for work in (
        lambda: mike.receive(three),
        mike.service.background.sweep,
        # The first of a worker that starts.
        starting.service.background.workers.beat,
    ):
        with pytest.raises(DatabaseAwayError) as refused:
            work()
    assert refused.value.code == code, "of the last: a new connection"
    role.run(healed)
    mike.service.background.workers.beat()
    mike.receive(three)
    mike.answer()

    assert world.database.value("SELECT count(*) FROM dead_letters") == 0
    assert [row["outcome"] for row in world.messages()] == ["answered"] * 3
    assert world.inputs() == ["one", "two\nthree"]
    mike.service.close()


@pytest.mark.parametrize(
    ("states", "waits"),
    [
        (("08006", "0A000", "25006", "25P03", "26000", "28P01", "3D000", "40001", "40P01"), True),
        (("42501", "42703", "42883", "42P01", "53100", "53200", "53300", "55P03"), True),
        (("57014", "57P01", "57P02", "57P03", "57P04", "57P05", "58030", "XX001"), True),
        (("21000", "22021", "22P02", "23505", "25001", "42601", "54000", "XX000", "P0001"), False),
    ],
)
def test_the_state_says_whether_to_wait(states: tuple[str, ...], waits: bool) -> None:
    assert {state: is_away(lookup(state)()) for state in states} == dict.fromkeys(states, waits)


def test_what_the_driver_itself_finds_is_away() -> None:
    assert is_away(psycopg.OperationalError("the connection is lost"))
    assert not is_away(psycopg.ProgrammingError("no results to fetch"))
