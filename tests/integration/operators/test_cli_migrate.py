"""`worker migrate`: from nothing to the newest, several at once, through poolers."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import psycopg
import pytest
from psycopg import sql as sql_text
from structlog.testing import capture_logs

from message_worker_client import Producer
from message_worker_client.postgres import Address
from tests.support.cli import bare_env, invoke, worker
from tests.support.databases import fresh_database
from tests.support.pgbouncer import IS_HERE, pgbouncer
from tests.support.processes import eventually
from tests.support.secret_files import GIVEN, OTHERS
from tests.support.tcp_proxy import postgres_socket
from tests.support.transaction_pooler import transaction_pooler
from worker.cli import migrations
from worker.domain.errors import DatabaseAwayError, PermanentError
from worker.handlers.background.schema import check_schema
from worker.sandbox.postgres import EmbeddedPostgres
from worker.store.database import Database
from worker.store.revisions import RevisionStore, revisions
from worker.store.sql import sql

HEAD = revisions()[-1]


@pytest.fixture
def empty_database(shared_postgres: EmbeddedPostgres) -> Iterator[str]:
    with fresh_database(shared_postgres, template="template1") as url:
        yield url


def tables(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_an_empty_database_is_migrated_and_then_there_is_nothing_to_do(empty_database: str) -> None:
    env = {"DATABASE_URL": empty_database}
    missing = invoke("migrate", "--check", env=env)
    assert (missing.returncode, tables(empty_database)) == (1, 0)
    assert f"the newest migration is {HEAD}" in missing.stdout
    first = invoke("migrate", env=env)
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"migrated from an empty database to {HEAD}\n"
    assert invoke("migrate", "--check", env=env).returncode == 0
    assert invoke("migrate", env=env).stdout == f"nothing to do: the database is at {HEAD}\n"


def test_the_missing_sql_is_printed_and_nothing_is_changed(empty_database: str) -> None:
    said = invoke("migrate", "--sql", env={"DATABASE_URL": empty_database})
    assert said.returncode == 0, said.stderr
    assert "CREATE TABLE messages" in said.stdout
    assert tables(empty_database) == 0


def at(revision: str, url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num text)")
        connection.execute("INSERT INTO alembic_version VALUES (%s)", [revision])


@pytest.mark.parametrize("options", [(), ("--check",), ("--sql",)])
def test_a_database_ahead_of_this_version_is_one_line(
    options: tuple[str, ...], empty_database: str
) -> None:
    at("9999", empty_database)
    said = invoke("migrate", *options, env={"DATABASE_URL": empty_database})
    assert (said.returncode, said.stderr.count("\n")) == (1, 1)
    assert " is at 9999, ahead of this version" in said.stderr


@pytest.mark.parametrize("command", [("celery", "-A", "worker", "worker"), ("worker", "console")])
def test_a_process_on_a_database_one_migration_behind_ends_with_the_command_that_helps(
    command: tuple[str, ...], empty_database: str
) -> None:
    *_, before, newest = revisions()
    at(before, empty_database)
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=bare_env(**GIVEN, **OTHERS) | {"DATABASE_URL": empty_database},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    line = f" is at {before}, this version needs {newest}: run `worker migrate`\n"
    assert done.stderr.endswith(line)


def test_a_worker_starts_on_newer_tables_and_says_so(empty_database: str) -> None:
    at("9999", empty_database)
    with closing(Database(empty_database)) as database, capture_logs() as logs:
        check_schema(RevisionStore(database))
    assert [(one["event"], one["at"]) for one in logs] == [("worker.schema_ahead", "9999")]


def test_a_worker_does_not_start_on_a_database_without_tables(empty_database: str) -> None:
    with (
        closing(Database(empty_database)) as database,
        pytest.raises(PermanentError, match="is at nothing yet"),
    ):
        check_schema(RevisionStore(database))


@pytest.mark.parametrize("name", ["DATABASE_URL", "LISTEN_DATABASE_URL"])
def test_a_database_that_is_away_is_one_line_that_names_the_variable(
    name: str, empty_database: str
) -> None:
    away = {name: "postgresql://u:geheim@127.0.0.1:1/x"}
    said = invoke("migrate", env={"DATABASE_URL": empty_database} | away)
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert said.stderr.startswith("worker: Postgres: ")
    assert f" is {name} right?" in said.stderr
    assert "geheim" not in said.stderr


def test_a_database_of_another_encoding_is_refused(shared_postgres: EmbeddedPostgres) -> None:
    ascii_only = "ENCODING 'SQL_ASCII' LOCALE 'C'"
    with fresh_database(shared_postgres, template="template0", more=ascii_only) as url:
        said = invoke("migrate", env={"DATABASE_URL": url})
        assert (said.returncode, said.stderr.count("\n"), tables(url)) == (1, 1, 0)
        assert "ENCODING 'UTF8'" in said.stderr


# --- several at once, poolers, search paths ----------------------------------------------------

POOLERS = {
    "directly": nullcontext,
    "a pooler": lambda target: transaction_pooler(target, options="dropped"),
    "PgBouncer": pgbouncer,
}


@contextmanager
def through(way: str, url: str) -> Iterator[str]:
    if way == "PgBouncer" and not IS_HERE:
        pytest.skip("PgBouncer is not installed")
    with POOLERS[way](postgres_socket(url)) as port:
        name = url.partition("@/")[2].partition("?")[0]
        yield (
            url
            if not isinstance(port, int)
            else (
                f"postgresql://postgres@127.0.0.1:{port}/{name}?gssencmode=disable&sslmode=disable"
            )
        )


@pytest.mark.parametrize("way", ["directly", "PgBouncer"])
def test_four_at_once_all_succeed(empty_database: str, way: str) -> None:
    with through(way, empty_database) as url, ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(worker, "migrate", env={"DATABASE_URL": url}) for _ in range(4)]
        done = [run.result() for run in runs]
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 4
    assert invoke("migrate", "--check", env={"DATABASE_URL": empty_database}).returncode == 0


def test_nothing_is_left_on_the_connections_of_a_pooler(empty_database: str) -> None:
    asked = "SELECT current_setting('lock_timeout') || ' ' || current_setting('statement_timeout')"
    with through("a pooler", empty_database) as url:
        assert invoke("migrate", env={"DATABASE_URL": url}).returncode == 0
        with psycopg.connect(url, autocommit=True) as other:
            found = {other.execute(asked.encode()).fetchone() for _ in range(8)}
            held = other.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
            assert held.fetchone() == (0,)
        assert found == {("0 0",)}
        assert invoke("migrate", env={"DATABASE_URL": url}).returncode == 0


def test_one_that_waits_too_long_names_the_holder(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"DATABASE_URL": empty_database}
    with psycopg.connect(empty_database, autocommit=True, application_name="backup") as other:
        other.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        other.execute("BEGIN")
        other.execute("LOCK TABLE alembic_version IN SHARE UPDATE EXCLUSIVE MODE")
        monkeypatch.setattr(migrations, "_WAIT_S", 0.5)
        said = invoke("migrate", env=env)
        pid = other.info.backend_pid
        other.execute("ROLLBACK")
    line = f"worker: another migration is running: process {pid} of postgres backup\n"
    assert (said.returncode, said.stderr) == (1, line)
    assert invoke("migrate", env=env).returncode == 0


def test_the_lock_outlives_the_timeouts_of_the_database(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as other:
        name = sql_text.Identifier(other.info.dbname)
        for setting in ("transaction_timeout", "idle_in_transaction_session_timeout"):
            other.execute(
                sql_text.SQL("ALTER DATABASE {} SET {} = '100ms'").format(
                    name, sql_text.Identifier(setting)
                )
            )
        with migrations._alone(Address(empty_database)):
            time.sleep(0.3)
            held = "SELECT FROM pg_locks WHERE relation = 'alembic_version'::regclass AND granted"
            assert other.execute(held).rowcount == 1


def test_an_advisory_lock_of_any_role_stops_nothing(empty_database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as anybody:
        anybody.execute("SELECT pg_advisory_lock(7733571002), pg_advisory_lock(4871, 1)")
        assert invoke("migrate", env={"DATABASE_URL": empty_database}).returncode == 0


def test_migrations_go_past_the_pooler_if_there_is_one(empty_database: str) -> None:
    env = {
        "DATABASE_URL": "postgresql://u@127.0.0.1:1/x",
        "LISTEN_DATABASE_URL": empty_database,
    }
    assert invoke("migrate", env=env).returncode == 0


@pytest.mark.parametrize("way", list(POOLERS))
def test_an_installation_with_a_search_path_of_its_own_keeps_to_it(
    empty_database: str, way: str
) -> None:
    assert invoke("migrate", env={"DATABASE_URL": empty_database}).returncode == 0
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA shop")
    with through(way, empty_database) as plain:
        options = "options=-csearch_path%3Dshop"
        url = f"{plain}&{options}"
        if way != "directly":
            refused = invoke("migrate", env={"DATABASE_URL": url})
            assert "a pooler drops search_path: set LISTEN_DATABASE_URL" in refused.stderr
        direct = f"{empty_database}{'&' if '?' in empty_database else '?'}{options}"
        first = invoke("migrate", env={"DATABASE_URL": url, "LISTEN_DATABASE_URL": direct})
        assert first.stdout == f"migrated from an empty database to {HEAD}\n", first.stderr
        assert invoke("migrate", "--check", env={"DATABASE_URL": url}).returncode == 0
        with Producer(database_url=url) as producer:
            producer.send(channel="web", user="ann", message_id="m-1", text="hello")
        database = Database(url, pool_size=1)
        try:
            with database.statement() as one:
                assert one.execute(sql("SELECT count(*) FROM inbox")).scalar_one() == 1
            with database.transaction() as one:
                assert one.execute(sql("SELECT current_schema()")).scalar_one() == "shop"
        finally:
            database.close()
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT count(*) FROM public.inbox").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM shop.inbox").fetchone() == (1,)
        names = "SELECT indexname FROM pg_indexes WHERE schemaname = %s ORDER BY 1"
        ours, others = (connection.execute(names, [one]).fetchall() for one in ("shop", "public"))
        assert ours == others


def test_the_environments_options_count_as_those_of_the_address(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA shop")
    monkeypatch.setenv("PGOPTIONS", "-c search_path=shop")
    assert invoke("migrate", env={"DATABASE_URL": empty_database}).returncode == 0
    database = Database(empty_database, pool_size=1)
    with database.statement() as one:
        assert (
            one.execute(sql("SELECT CAST(to_regclass('shop.inbox') AS text)")).scalar_one()
            == "inbox"
        )
    database.close()


def test_after_a_failover_the_server_that_takes_writes_is_found(
    shared_postgres: EmbeddedPostgres, sandbox_dir: Path
) -> None:
    where = sql("SELECT current_setting('data_directory')")
    write = sql("CREATE TEMPORARY TABLE noted_here AS SELECT 1 AS number")
    with EmbeddedPostgres(sandbox_dir / "postgres", fast=True) as old:
        folders = [postgres_socket(one.url).parent for one in (old, shared_postgres)]
        url = f"postgresql://postgres@/postgres?host={folders[0]},{folders[1]}"
        database = Database(url, pool_size=1)
        with database.statement() as one:
            first = one.execute(where).scalar_one()
        with psycopg.connect(old.url, autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            admin.execute("SELECT pg_reload_conf()")

        def writes() -> bool:
            # Until it has read its configuration again, the old one still takes writes.
            with database.transaction() as one:
                one.execute(sql("CREATE TABLE noted AS SELECT 1 AS number"))
                one.execute(sql("DROP TABLE noted"))
            return False

        with pytest.raises(DatabaseAwayError, match="25006"):
            eventually(writes)
        with database.statement() as one:
            assert one.execute(where).scalar_one() != first
            one.execute(write)
        database.close()
    # The first of the two is gone now.
    after = Database(url, pool_size=1)
    with after.statement() as one:
        one.execute(write)
    after.close()
