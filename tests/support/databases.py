"""Fresh databases: each a copy of one template that was migrated once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from worker.sandbox.postgres import EmbeddedPostgres

ROOT = Path(__file__).parents[2]
TEMPLATE = "migrated_template"


def alembic_config() -> Config:
    """The repository's own alembic.ini; give `attributes["connection"]` or DATABASE_URL."""
    return Config(ROOT / "alembic.ini")


def make_template(server: EmbeddedPostgres) -> None:
    """Create the template database and migrate it to head."""
    _run(server, f"CREATE DATABASE {TEMPLATE}")
    if not any((ROOT / "migrations" / "versions").glob("*.py")):
        return
    engine = create_engine(server.url_of(TEMPLATE))
    config = alembic_config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()


@contextmanager
def fresh_database(
    server: EmbeddedPostgres, *, template: str = TEMPLATE, more: LiteralString = ""
) -> Iterator[str]:
    """The URL of a new copy of the template, dropped at the end with whoever is still connected."""
    name = f"test_{uuid4().hex[:12]}"
    # The default would write the whole template to the log, a gigabyte of it in a hundred tests.
    _run(server, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy {more}")
    try:
        yield server.url_of(name)
    finally:
        if not server.is_running:
            server.restart()
        _run(server, f"DROP DATABASE {name} WITH (FORCE)")


def libpq_url(url: str) -> str:
    """SQLAlchemy's URL as psycopg itself takes it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def _run(server: EmbeddedPostgres, statement: LiteralString) -> None:
    with psycopg.connect(libpq_url(server.url), autocommit=True) as connection:
        connection.execute(statement)
