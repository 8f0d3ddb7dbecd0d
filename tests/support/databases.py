"""Fresh databases: copies of a template that was migrated once, cleaned and used again.

A copy is 300 files, three times the work of emptying the tables that a test has filled. So a
database goes back to the spares of its server, unless the test changed more than rows. It gets
another name: what a test left running does not find it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4
from weakref import WeakKeyDictionary

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from worker.sandbox.postgres import EmbeddedPostgres

ROOT = Path(__file__).parents[2]
TEMPLATE = "migrated_template"
CLOCKED = "migrated_template_with_clock"
"""Its `service_now()` is the test's to move: see `tests.support.world.Clock`."""

REPLACE_CLOCK: LiteralString = """
CREATE TABLE test_clock (ahead interval NOT NULL);
INSERT INTO test_clock VALUES ('0');
CREATE OR REPLACE FUNCTION service_now() RETURNS timestamptz LANGUAGE sql STABLE
    AS 'SELECT statement_timestamp() + ahead FROM test_clock';
CREATE OR REPLACE FUNCTION service_clock() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT clock_timestamp() + ahead FROM test_clock';
"""
_SHAPE = """
SELECT md5(string_agg(made, E'\n' ORDER BY made)) FROM (
    SELECT concat_ws(' ', 'class', oid, relname, relkind, relowner, relacl, reloptions,
        relrowsecurity, relhastriggers, relpersistence) FROM pg_class
        WHERE oid >= 16384 AND relkind <> 't'
    UNION ALL SELECT concat_ws(' ', 'column', attrelid, attnum, xmin)
        FROM pg_attribute WHERE attrelid >= 16384 AND attnum > 0
    UNION ALL SELECT concat_ws(' ', 'default', oid, xmin) FROM pg_attrdef
    UNION ALL SELECT concat_ws(' ', 'constraint', oid, xmin) FROM pg_constraint WHERE oid >= 16384
    UNION ALL SELECT concat_ws(' ', 'trigger', oid, xmin) FROM pg_trigger
    UNION ALL SELECT concat_ws(' ', 'view', oid, xmin) FROM pg_rewrite WHERE oid >= 16384
    UNION ALL SELECT concat_ws(' ', 'function', oid, xmin) FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT concat_ws(' ', 'schema', oid, xmin) FROM pg_namespace WHERE oid >= 2200
        AND nspname !~ '^pg_'
    UNION ALL SELECT concat_ws(' ', 'policy', oid, xmin) FROM pg_policy
    UNION ALL SELECT concat_ws(' ', 'default rights', oid, xmin) FROM pg_default_acl
    UNION ALL SELECT concat_ws(' ', 'extension', oid, xmin) FROM pg_extension
    UNION ALL SELECT concat_ws(' ', 'index', indexrelid, indisvalid) FROM pg_index
        WHERE indexrelid >= 16384
    UNION ALL SELECT concat_ws(' ', 'setting', setrole, setconfig)
        FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
        WHERE d.datname = current_database()
    UNION ALL SELECT concat_ws(' ', 'database', datdba, datacl, datconnlimit)
        FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT concat_ws(' ', 'version', version_num) FROM alembic_version
) AS everything (made)
"""
"""What of a database emptying the tables does not restore."""
_END_OTHERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
# DELETE without triggers: TRUNCATE makes new files for each table and index, which takes six times
# as long for a handful of rows. But it leaves nothing to be read past, so large tables get it.
_EMPTY = """
SET session_replication_role = replica;
DO $$
DECLARE
    one regclass;
BEGIN
    FOR one IN SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace
        AND relkind = 'r' AND relname NOT IN ('alembic_version', 'test_clock', 'locks', 'secrets')
    LOOP
        IF pg_relation_size(one) < 200000 THEN
            EXECUTE format('DELETE FROM %s', one);
        ELSE
            EXECUTE format('TRUNCATE %s CASCADE', one);
        END IF;
    END LOOP;
    IF to_regclass('test_clock') IS NOT NULL THEN UPDATE test_clock SET ahead = '0'; END IF;
END $$;
SELECT setval(seqrelid, seqstart, false) FROM pg_sequence;
"""


@dataclass
class _Copies:
    """Of one template of one server."""

    shape: str
    spare: list[str] = field(default_factory=list)


_copies: WeakKeyDictionary[EmbeddedPostgres, dict[str, _Copies]] = WeakKeyDictionary()


def alembic_config() -> Config:
    """The repository's own alembic.ini; give `attributes["connection"]` or DATABASE_URL."""
    return Config(ROOT / "alembic.ini")


def make_template(server: EmbeddedPostgres) -> None:
    """Create the template database and migrate it to head; another one gets the tests' clock."""
    _run(server, f"CREATE DATABASE {TEMPLATE}")
    engine = create_engine(server.url_of(TEMPLATE))
    config = alembic_config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()
    _run(server, f"CREATE DATABASE {CLOCKED} TEMPLATE {TEMPLATE} STRATEGY file_copy")
    copies = _copies[server] = {}
    for template, statement in ((TEMPLATE, "SELECT"), (CLOCKED, REPLACE_CLOCK)):
        with psycopg.connect(server.url_of(template), autocommit=True) as connection:
            connection.execute(statement)
            copies[template] = _Copies(_shape_of(connection))


@contextmanager
def fresh_database(
    server: EmbeddedPostgres, *, template: str = TEMPLATE, more: LiteralString = ""
) -> Iterator[str]:
    """The URL of a database like the template; those still connected at the end are cut off."""
    copies = _copies.get(server, {}).get(template)
    name = f"test_{uuid4().hex[:12]}"
    if copies is not None and copies.spare:
        _run(server, f"ALTER DATABASE {copies.spare.pop()} RENAME TO {name}")
    else:
        # The default would write the whole template to the log, a gigabyte in a hundred tests.
        _run(server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy {more}")
    try:
        yield server.url_of(name)
    finally:
        if not server.is_running:
            server.restart()
        if copies is not None and _is_empty_again(server.url_of(name), copies.shape):
            copies.spare.append(name)
        else:
            _run(server, f"DROP DATABASE {name} WITH (FORCE)")


def _is_empty_again(url: str, shape: str) -> bool:
    """Whether only rows had changed, and these are away now."""
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_END_OTHERS)
            if _shape_of(connection) != shape:
                return False
            connection.execute(_EMPTY)
    except psycopg.Error:  # the test has locked everybody out, for one
        return False
    return True


def _shape_of(connection: psycopg.Connection[Any]) -> str:
    ((shape,),) = connection.execute(_SHAPE).fetchall()
    return str(shape)


def _run(server: EmbeddedPostgres, statement: LiteralString) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(statement)
