"""What one process does at a time is a locked row: no stranger can take it, no wait is endless."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs

import worker
from tests.support.databases import ROOT
from worker.domain.errors import DatabaseAwayError
from worker.store import locks
from worker.store.database import Database
from worker.store.intake import inbox
from worker.store.intake.inbox import InboxStore, Judged, Refused
from worker.store.locks import HeldError, Lock, try_lock, wait_lock
from worker.store.sql import sql as query

NAMES: tuple[Lock, ...] = get_args(Lock)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    found = Database(database_url, pool_size=2)
    yield found
    found.close()


@pytest.fixture
def other(database_url: str) -> Iterator[psycopg.Connection]:
    """Another program of the same database, in a transaction."""
    with psycopg.connect(database_url, application_name="backup") as connection:
        yield connection


@pytest.mark.parametrize("name", NAMES)
def test_advisory_locks_of_any_role_stop_nothing(
    database: Database, other: psycopg.Connection, name: Lock
) -> None:
    other.execute("SELECT pg_advisory_lock(4871, number) FROM generate_series(0, 9) AS number")
    with database.transaction() as one:
        assert try_lock(one, name)
    with database.transaction() as one:
        wait_lock(one, name)


def test_no_statement_takes_an_advisory_lock() -> None:
    folders = (Path(worker.__file__).parent, ROOT / "client", ROOT / "migrations")
    files = [file for folder in folders for file in folder.rglob("*.py")]
    assert len(files) > 200
    taking = re.compile(r"pg_(try_)?advisory", re.IGNORECASE)
    assert [file for file in files if taking.search(file.read_text())] == []


@pytest.mark.parametrize(
    "taking",
    [
        "SELECT FROM locks FOR UPDATE",
        "SELECT FROM locks FOR KEY SHARE",
        "LOCK TABLE locks IN ACCESS SHARE MODE",
        "INSERT INTO locks VALUES ('inbox')",
        "LOCK TABLE alembic_version IN SHARE UPDATE EXCLUSIVE MODE",
    ],
)
def test_a_role_without_rights_reaches_no_lock(other: psycopg.Connection, taking: str) -> None:
    role = sql.Identifier(f"stranger_{other.info.dbname}")
    # It ends with the transaction, which is rolled back.
    other.execute(sql.SQL("CREATE ROLE {0}; SET LOCAL ROLE {0}").format(role))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        other.execute(taking.encode())
    other.rollback()


@pytest.mark.parametrize("name", NAMES)
def test_a_wait_ends_and_names_the_holder(
    database: Database, other: psycopg.Connection, name: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_WAIT_S", 0.05)
    other.execute("SELECT FROM locks WHERE name = %s FOR UPDATE", [name])
    timeout = query("SELECT current_setting('lock_timeout')")
    with database.transaction() as one:
        before = one.execute(timeout).scalar_one()
        began = time.monotonic()
        with pytest.raises(HeldError) as held:
            wait_lock(one, name)
        assert time.monotonic() - began < 5, "the session's own timeout is ten seconds"
        assert not try_lock(one, name)
        assert one.execute(timeout).scalar_one() == before, "the transaction goes on as it was"
    holder = f"process {other.info.backend_pid} of postgres backup"
    assert str(held.value) == f"the lock `{name}` was held for 0.05 s by {holder}"
    assert isinstance(held.value, DatabaseAwayError), "what waits for Postgres waits for this, too"
    other.rollback()
    with database.transaction() as one:
        wait_lock(one, name)
        assert one.execute(timeout).scalar_one() == before


def refuse(_: bytes) -> Judged:
    return Refused(reason="envelope_invalid", detail="it is a test's")


def test_an_inbox_that_another_process_keeps_is_logged_now_and_again_with_its_holder(
    database: Database, other: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(inbox, "boottime", lambda: now)
    other.execute("INSERT INTO inbox (envelope) VALUES ('{}')")
    other.commit()
    other.execute("SELECT FROM locks WHERE name = 'inbox' FOR UPDATE")
    store = InboxStore(database)
    with capture_logs() as logs:
        for now in (100.0, 129.0, 130.0, 131.0, 159.0, 160.0):  # noqa: B007 - the lambda reads it
            assert store.drain(refuse) is None
    holder = f"process {other.info.backend_pid} of postgres backup"
    line = {"event": "inbox.held", "holder": holder, "log_level": "warning"}
    assert logs == [line] * 2
    other.rollback()
    assert store.drain(refuse) is not None
    other.execute("INSERT INTO inbox (envelope) VALUES ('{}')")
    other.commit()
    with capture_logs() as logs:
        now = 1000.0
        other.execute("SELECT FROM locks WHERE name = 'inbox' FOR UPDATE")
        assert store.drain(refuse) is None
    assert logs == [], "it was free in between"
