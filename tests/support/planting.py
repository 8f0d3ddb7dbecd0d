"""Faults to plant in a healthy installation, for `worker doctor` to find."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from redis import Redis
from sqlalchemy import create_engine

from tests.support.databases import alembic_config, fresh_database
from tests.support.raw_server import RawServer, answers, http, raw_server
from tests.support.tcp_proxy import postgres_socket
from tests.support.transaction_pooler import Options, transaction_pooler
from tests.support.world import NAMESPACE
from worker.cli.doctor.examine import Setup
from worker.config.agents_file import DEFAULT_MODEL, load_agents
from worker.config.settings import Settings
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import Simulator

FLOWER_NOWHERE = "http://127.0.0.1:1"


@dataclass(kw_only=True)
class Ground:
    """A healthy installation, to plant a fault in."""

    postgres: EmbeddedPostgres
    database_url: str
    redis: EmbeddedRedis
    admin: Redis
    """Connected before any plant, and so past any password."""
    simulator: Simulator
    folder: Path
    changes: dict[str, Any] = field(default_factory=dict)
    """Settings other than the healthy ones."""
    stack: ExitStack = field(default_factory=ExitStack)

    def setup(self) -> Setup:
        values = {
            "database_url": self.database_url,
            "broker_url": self.redis.url,
            "telnyx_api_key": self.simulator.api_key,
            "telnyx_base_url": self.simulator.base_url,
            "namespace": NAMESPACE,
        }
        read = Settings(**{**values, **self.changes})
        routing, timing = load_agents(read.agents_file)
        return Setup(settings=read, wrong={}, routing=routing, timing=timing)

    def env(self, **more: str) -> dict[str, str]:
        return {
            "DATABASE_URL": self.database_url,
            "BROKER_URL": self.redis.url,
            "TELNYX_API_KEY": self.simulator.api_key,
            "TELNYX_BASE_URL": self.simulator.base_url,
            "NAMESPACE": str(NAMESPACE),
            "FLOWER_URL": FLOWER_NOWHERE,
            "SANDBOX_DIR": str(self.folder / "none"),
            **more,
        }

    def agents(self, text: str) -> Path:
        file = self.folder / "agents.toml"
        file.write_text(text)
        return file

    def own_database(self) -> None:
        """Take a database that may be spoiled."""
        self.database_url = self.stack.enter_context(fresh_database(self.postgres))

    def configure_redis(self, name: str, value: str) -> None:
        self.stack.callback(self.admin.config_set, name, self.admin.config_get(name)[name])
        self.admin.config_set(name, value)

    def sql(self, statement: str) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(statement.encode())

    @property
    def database(self) -> str:
        return self.database_url.partition("?")[0].rpartition("/")[2]


def changed(**values: object) -> Callable[[Ground], None]:
    return lambda ground: ground.changes.update(values)


def database_missing(ground: Ground) -> None:
    ground.changes["database_url"] = ground.postgres.url_of("no_such_database")


def one_migration_back(ground: Ground) -> None:
    ground.own_database()
    config = alembic_config()
    engine = create_engine(ground.database_url)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
    engine.dispose()


def never_migrated(ground: Ground) -> None:
    ground.changes["database_url"] = ground.stack.enter_context(
        fresh_database(ground.postgres, template="template1")
    )


def ahead_of_the_code(ground: Ground) -> None:
    ground.own_database()
    ground.sql("UPDATE alembic_version SET version_num = '9999'")


def database_clock_skewed(ground: Ground) -> None:
    ground.own_database()
    ground.sql(
        "CREATE SCHEMA skewed; CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz "
        "LANGUAGE sql AS $$SELECT pg_catalog.clock_timestamp() + interval '45 s'$$; "
        f"ALTER DATABASE {ground.database} SET search_path = skewed, pg_catalog, public"
    )


def may_only_read(ground: Ground) -> None:
    ground.own_database()
    role = f"reader_{ground.database}"
    ground.sql(f"CREATE ROLE {role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    ground.stack.callback(ground.sql, f"DROP OWNED BY {role}; DROP ROLE {role}")
    ground.changes["database_url"] = ground.database_url.replace("//postgres@", f"//{role}@")


def read_only(ground: Ground) -> None:
    ground.own_database()
    ground.sql(f"ALTER DATABASE {ground.database} SET default_transaction_read_only = on")


def behind_pooler(ground: Ground, options: Options = "passed") -> None:
    socket = postgres_socket(ground.database_url)
    port = ground.stack.enter_context(transaction_pooler(socket, options=options))
    ground.changes["database_url"] = (
        f"postgresql://postgres@127.0.0.1:{port}/{ground.database}?gssencmode=disable"
    )


def strange_behind_pooler(ground: Ground) -> None:
    ground.own_database()
    ground.sql(f"ALTER DATABASE {ground.database} SET DateStyle = 'German'")
    ground.sql(f"ALTER DATABASE {ground.database} SET client_encoding = 'LATIN1'")
    behind_pooler(ground, "dropped")


def configured(**parameters: str) -> Callable[[Ground], None]:
    def plant(ground: Ground) -> None:
        for name, value in parameters.items():
            ground.configure_redis(name.replace("_", "-"), value)

    return plant


def replica(ground: Ground) -> None:
    ground.stack.callback(ground.admin.replicaof, "NO", "ONE")
    ground.admin.replicaof("127.0.0.1", "1")


def silent_about_itself(ground: Ground) -> None:
    """As a managed Redis is: CONFIG is refused, INFO is not."""
    configured(maxmemory="100mb", maxmemory_policy="allkeys-lru")(ground)
    rules = ("on", ">pw", "~*", "&*", "+@all", "-config")
    ground.stack.callback(ground.admin.execute_command, "ACL", "DELUSER", "tenant")
    ground.admin.execute_command("ACL", "SETUSER", "tenant", *rules)
    ground.changes["broker_url"] = f"redis://tenant:pw@127.0.0.1:{ground.redis.port}/0"


def conversation_unknown(ground: Ground) -> None:
    """As after a worker has asked, and was told of a conversation without a mapping."""
    ground.own_database()
    with psycopg.connect(ground.database_url) as connection:
        connection.execute("INSERT INTO cluster (asked_at) VALUES (service_now())")


def wrong_path(ground: Ground) -> None:
    ground.changes["telnyx_base_url"] = ground.simulator.root_url + "/v3"


def unknown_model(ground: Ground) -> None:
    ground.changes["agents_file"] = ground.agents(
        '[agents.default]\n[agents.other]\nmodel = "nobody/none"\n'
    )


def telnyx_clock(behind_s: float) -> Callable[[Ground], None]:
    def plant(ground: Ground) -> None:
        date = format_datetime(datetime.now(UTC) - timedelta(seconds=behind_s), usegmt=True)
        canned = http({"object": "list", "data": [{"id": DEFAULT_MODEL}]}, headers={"Date": date})
        server: RawServer = ground.stack.enter_context(raw_server(answers(canned)))
        ground.changes["telnyx_base_url"] = server.url

    return plant
