"""What a command imports is what it costs: probes and scripts run it again and again.

No times are measured: they depend on the machine. The table shows which of the costly packages a
command loads; typer itself needs pydantic to read options.
"""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.cli import bare_env
from tests.support.databases import fresh_database
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis

COSTLY = {
    *("aiohttp", "alembic", "amqp", "celery", "httpx", "kombu", "pydantic"),
    *("prometheus_client", "redis", "rich", "sqlalchemy", "structlog"),
}
USED: dict[str, set[str]] = {
    "health": set(),
    "health --json": {"pydantic"},
    "--help": {"rich"},
    "schema envelope": {"pydantic", "rich"},
    "migrate --check": {"pydantic"},
    "status --json": {"pydantic", "redis", "rich"},
    "stuck": {"pydantic", "redis", "rich"},
    "usage": {"pydantic", "rich"},
    "why 1": {"pydantic", "rich"},
    "try-agent nobody Hi": {"httpx", "pydantic", "rich", "structlog"},
    "dead-letters list": {"pydantic", "rich", "structlog"},
    "messages": {"pydantic", "rich", "structlog"},
    "users": {"pydantic", "rich", "structlog"},
    "mail-in --sender a@x --recipient b@x": {"prometheus_client", "pydantic", "rich", "structlog"},
    "doctor": {
        *("amqp", "celery", "httpx", "kombu", "pydantic", "redis", "rich"),
    },
    "conversations list": {"pydantic", "rich", "structlog"},
}
_RUN = """
import json, sys
from worker.cli.app import main

try:
    main()
finally:
    print(json.dumps([one for one in sys.modules if "." not in one]), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def env(shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis) -> Iterator[dict[str, str]]:
    with fresh_database(shared_postgres) as url:
        yield bare_env(
            DATABASE_URL=url,
            BROKER_URL=shared_redis.url,
            TELNYX_API_KEY="KEY",
            TELNYX_BASE_URL="http://127.0.0.1:9/v2",
            NAMESPACE="6f1d4a52-6f0f-4f0e-8a43-2f9f5f1f9b11",
        )


@pytest.mark.parametrize(("command", "used"), USED.items())
def test_a_command_imports_only_what_it_uses(
    command: str, used: set[str], env: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *command.split()],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    *said, imported = done.stderr.splitlines()
    assert "Traceback" not in "".join(said)
    assert COSTLY & set(json.loads(imported)) == used
