from collections.abc import Iterator

import psycopg
import pytest

from tests.support.cli import invoke
from tests.support.databases import fresh_database
from worker.cli.migrations import head_revision
from worker.sandbox.postgres import EmbeddedPostgres

HEAD = head_revision()


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


def test_a_database_that_is_away_is_one_line() -> None:
    said = invoke("migrate", env={"DATABASE_URL": "postgresql://u:geheim@127.0.0.1:1/x"})
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert said.stderr.startswith("worker: Postgres: ")
    assert "geheim" not in said.stderr


def test_a_database_of_another_encoding_is_refused(shared_postgres: EmbeddedPostgres) -> None:
    ascii_only = "ENCODING 'SQL_ASCII' LOCALE 'C'"
    with fresh_database(shared_postgres, template="template0", more=ascii_only) as url:
        said = invoke("migrate", env={"DATABASE_URL": url})
        assert (said.returncode, said.stderr.count("\n"), tables(url)) == (1, 1, 0)
        assert "ENCODING 'UTF8'" in said.stderr
