"""The migrations on a real Postgres, and the rules that each file of them keeps."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from tests.support.databases import ROOT, alembic_config, fresh_database
from worker.cli.revision import revisions
from worker.sandbox.postgres import EmbeddedPostgres

MIGRATIONS = ROOT / "migrations"
FILES = sorted((MIGRATIONS / "versions").glob("*.py"))
PHASE = re.compile(r"^Phase: (expand|backfill|contract)\b", re.MULTILINE)
LOCKS = re.compile(r"^Locks: \S", re.MULTILINE)

OBJECTS = """
    SELECT relkind::text || ' ' || relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'type ' || typname FROM pg_type
    WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')
"""
SHAPE = """
    SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable
        || ' ' || coalesce(column_default, '')
    FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace
"""
OWN_OBJECTS = {"r alembic_version", "i alembic_version_pkc"}


@pytest.fixture
def empty_database(shared_postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database that nothing was ever done to."""
    with fresh_database(shared_postgres, template="template1") as url:
        yield url


@pytest.fixture
def config(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Alembic on the empty database, the way its command line goes."""
    monkeypatch.setenv("DATABASE_URL", empty_database)
    return alembic_config()


def read(url: str, query: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute(query.encode())}


def test_up_from_empty_down_to_empty_and_up_again(config: Config, empty_database: str) -> None:
    command.upgrade(config, "head")
    shape = read(empty_database, SHAPE)
    command.downgrade(config, "base")
    assert read(empty_database, OBJECTS) == OWN_OBJECTS
    command.upgrade(config, "head")
    assert read(empty_database, SHAPE) == shape


def test_every_single_step_down_can_be_gone_up_again(config: Config, empty_database: str) -> None:
    command.upgrade(config, "head")
    scripts = list(ScriptDirectory.from_config(config).walk_revisions())
    # Commands read them from the names of the files.
    assert revisions() == [one.revision for one in reversed(scripts)]
    for revision in scripts:
        before = read(empty_database, SHAPE)
        command.downgrade(config, "-1")
        command.upgrade(config, revision.revision)
        assert read(empty_database, SHAPE) == before
        command.downgrade(config, "-1")


def test_a_lease_of_a_worker_without_a_row_is_no_obstacle_on_the_way_down(
    config: Config, empty_database: str
) -> None:
    command.upgrade(config, "0027")
    with psycopg.connect(empty_database) as connection:
        connection.execute(
            "INSERT INTO channel_users (channel, address, lease_owner)"
            " VALUES ('web', 'u', gen_random_uuid())"
        )

    command.downgrade(config, "0026")

    held = "SELECT address || coalesce(lease_owner::text, ': free') FROM channel_users"
    assert read(empty_database, held) == {"u: free"}


def test_users_of_the_fast_path_are_due_on_the_way_down_and_dropped_messages_marked_on_the_way_up(
    config: Config, empty_database: str
) -> None:
    command.upgrade(config, "0031")
    with psycopg.connect(empty_database) as connection:
        connection.execute(
            "INSERT INTO channel_users (channel, address, open_turn_id)"
            " VALUES ('web', 'answered', 1), ('web', 'idle', NULL)"
        )
        connection.execute(
            "INSERT INTO messages (channel_user_id, message_id, seq, order_at, agent, envelope,"
            " state, outcome, finished_at) SELECT id, 'm', 1, now(), '', '{}',"
            " 'skipped', 'bulk', now() FROM channel_users WHERE address = 'idle'"
        )

    command.downgrade(config, "0030")
    due = "SELECT address FROM channel_users WHERE due_at IS NOT NULL"
    assert read(empty_database, due) == {"answered"}

    command.upgrade(config, "0031")
    assert read(empty_database, "SELECT dropped_at = finished_at FROM messages") == {True}


def test_the_models_and_the_migrations_say_the_same(config: Config) -> None:
    command.upgrade(config, "head")
    command.check(config)


def test_a_second_upgrade_changes_nothing(config: Config, empty_database: str) -> None:
    command.upgrade(config, "head")
    shape = read(empty_database, SHAPE)
    command.upgrade(config, "head")
    assert read(empty_database, SHAPE) == shape


def test_an_open_connection_can_be_given(empty_database: str) -> None:
    config = alembic_config()
    engine = create_engine(empty_database)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()
    assert "r channel_users" in read(empty_database, OBJECTS)


def test_alembics_own_command_line_works(empty_database: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": empty_database},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "r channel_users" in read(empty_database, OBJECTS)


def test_there_is_one_line_of_revisions() -> None:
    script = ScriptDirectory.from_config(alembic_config())
    assert len(script.get_heads()) == 1
    assert len(script.get_bases()) == 1
    assert [path.name.split("_")[0] for path in FILES] == sorted(
        revision.revision for revision in script.walk_revisions()
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_migration_states_its_phase_and_its_locks(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert PHASE.search(docstring)
    assert LOCKS.search(docstring)
    assert "…" not in docstring, "the template's placeholder"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_migration_imports_nothing_of_the_service(path: Path) -> None:
    """What it does must not change when the code does."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                imported |= {alias.name.partition(".")[0] for alias in names}
            case ast.ImportFrom(module=module):
                imported.add((module or "").partition(".")[0])
    assert imported <= {"alembic", "sqlalchemy", "collections"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_migration_can_be_taken_back(path: Path) -> None:
    downgrades = [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "downgrade"
    ]
    assert len(downgrades) == 1
    assert not all(isinstance(step, ast.Pass) for step in downgrades[0].body)


NOTES_ITS_TIMEOUTS = """
from alembic import op
revision = "{revision}"
down_revision = {before!r}

def upgrade():
    op.execute(
        "CREATE TABLE noted_{revision} AS SELECT current_setting('lock_timeout') AS lock_timeout,"
        " current_setting('statement_timeout') AS statement_timeout"
    )
"""


@pytest.fixture
def two_migrations(tmp_path: Path) -> Config:
    """Our env.py over two migrations that note which timeouts they ran under."""
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    shutil.copy(MIGRATIONS / "env.py", folder)
    for revision, before in (("0001", None), ("0002", "0001")):
        text = NOTES_ITS_TIMEOUTS.format(revision=revision, before=before)
        (folder / "versions" / f"{revision}_notes.py").write_text(text)
    config = Config()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    return config


@pytest.mark.parametrize("way", ["DATABASE_URL", "a connection"])
def test_every_migration_gives_up_on_a_lock_in_time(
    two_migrations: Config, empty_database: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database)
    engine = create_engine(empty_database)
    with engine.connect() as connection:
        if way != "DATABASE_URL":
            two_migrations.attributes["connection"] = connection
        command.upgrade(two_migrations, "head")
        connection.commit()
    engine.dispose()
    for revision in ("0001", "0002"):
        noted = f"SELECT lock_timeout || ' ' || statement_timeout FROM noted_{revision}"
        assert read(empty_database, noted) == {"5s 15min"}
