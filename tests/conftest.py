"""Real servers for the tests: one fast Postgres and one Redis for each pytest process.

With xdist each of its workers has its own; each starts with the first test that wants it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.support.bad_servers import Certificate
from tests.support.databases import CLOCKED, TEMPLATE, fresh_database, make_template
from tests.support.dovecot import Dovecot, dovecot
from tests.support.processes import open_folder
from tests.support.programs import IS_CI, are_installed
from tests.support.world import World, running_world
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis
from worker.sandbox.simulator import SimulatorConfig


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where a test was skipped in CI: what it needs is to be installed there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if IS_CI and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run that all processes of xdist share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def servers_dir() -> Iterator[Path]:
    """Where the shared servers keep their data; gone at the end."""
    with open_folder() as folder:
        yield folder


@pytest.fixture
def sandbox_dir() -> Iterator[Path]:
    """A folder for the servers of one test; unlike tmp_path, root's Postgres may enter it."""
    with open_folder() as folder:
        yield folder / "sandbox"


@pytest.fixture(scope="session")
def shared_postgres(servers_dir: Path) -> Iterator[EmbeddedPostgres]:
    """The server behind `database_url`, with the migrated template in it."""
    programs = os.environ.get("MATRIX_POSTGRES")
    with EmbeddedPostgres(
        servers_dir / "postgres", fast=True, programs=Path(programs) if programs else None
    ) as server:
        make_template(server)
        yield server


@pytest.fixture
def postgres_server(shared_postgres: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """The same server, for a test that kills it; afterwards it runs again."""
    yield shared_postgres
    if not shared_postgres.is_running:
        shared_postgres.restart()


@pytest.fixture
def database_url(
    request: pytest.FixtureRequest, shared_postgres: EmbeddedPostgres
) -> Iterator[str]:
    """A database of this test's own, migrated to head: postgresql://..."""
    template = CLOCKED if "world" in request.fixturenames else TEMPLATE
    with fresh_database(shared_postgres, template=template) as url:
        yield url


@pytest.fixture(scope="session")
def shared_redis(servers_dir: Path) -> Iterator[EmbeddedRedis]:
    """The server behind `broker_url`."""
    with EmbeddedRedis(servers_dir / "redis") as server:
        yield server


@pytest.fixture
def broker_url(shared_redis: EmbeddedRedis) -> Iterator[str]:
    """An empty Redis: redis://... Killing it is for `redis_server`."""
    with Redis.from_url(shared_redis.url) as client:
        client.flushall()
        yield shared_redis.url
        # Modules with a worker of their own use this server as well: an entry that a test left
        # would be answered there.
        client.flushall()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server of this test's own, to be killed, restarted, lost."""
    with EmbeddedRedis(tmp_path / "redis") as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate of `localhost` that nobody trusts who is not told to."""
    return Certificate.made_in(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def mail_server(servers_dir: Path, certificate: Certificate) -> Iterator[Dovecot]:
    """The IMAP server of all tests; each has accounts of its own."""
    if not are_installed("dovecot"):
        pytest.skip("dovecot-imapd is not installed")
    with dovecot(servers_dir / "dovecot", certificate) as server:
        yield server


@pytest.fixture
def world(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[World]:
    """The handlers on real Postgres, against a simulator; its time is the test's to move.

    A module that needs another simulator says so with `pytest.mark.simulator(reasoning=False)`.
    """
    mark = request.node.get_closest_marker("simulator")
    given = {"list_visible_after_s": 0} | (mark.kwargs if mark else {})
    with running_world(database_url, tmp_path, SimulatorConfig(**given)) as made:
        yield made
