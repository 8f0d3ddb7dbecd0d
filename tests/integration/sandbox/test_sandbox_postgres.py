"""The embedded Postgres, run by the user of the tests: root or not."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.support.processes import is_running, open_folder
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.server import SandboxError

pytestmark = pytest.mark.slow


@pytest.fixture
def server(sandbox_dir: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(sandbox_dir / "postgres", fast=True) as running:
        yield running


def ask(server: EmbeddedPostgres, question: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(question.encode())
        return cursor.fetchall() if cursor.description else []


def setting(server: EmbeddedPostgres, name: str) -> object:
    return ask(server, f"SHOW {name}")[0][0]


def test_it_answers_and_never_runs_as_root(server: EmbeddedPostgres) -> None:
    assert ask(server, "SELECT 1") == [(1,)]
    assert Path(f"/proc/{server.pid}").stat().st_uid != 0
    assert str(setting(server, "server_version")).startswith("18.")
    assert setting(server, "listen_addresses") == ""
    assert setting(server, "max_connections") == "300"


def test_without_fast_every_commit_is_on_disk(sandbox_dir: Path) -> None:
    with EmbeddedPostgres(sandbox_dir / "postgres") as server:
        durable = [setting(server, n) for n in ("fsync", "synchronous_commit", "full_page_writes")]
    assert durable == ["on", "on", "on"]


def test_data_are_kept_between_starts(server: EmbeddedPostgres) -> None:
    url = server.url
    ask(server, "CREATE TABLE kept AS SELECT 7 AS number")
    server.restart()
    assert server.url == url
    assert ask(server, "SELECT number FROM kept") == [(7,)]


def test_what_was_committed_survives_a_kill_even_when_fast(server: EmbeddedPostgres) -> None:
    ask(server, "CREATE TABLE kept (number int)")
    for number in range(20):
        ask(server, f"INSERT INTO kept VALUES ({number})")
    server.kill()
    assert not server.is_running
    server.restart()
    assert ask(server, "SELECT count(*) FROM kept") == [(20,)]


def test_a_kill_takes_busy_backends_with_it(server: EmbeddedPostgres) -> None:
    """A backend that computes does not notice that its postmaster is gone, and blocks a restart."""
    backends: list[int] = []
    started = threading.Event()

    def compute() -> None:
        with (
            suppress(psycopg.OperationalError),
            psycopg.connect(server.url) as connection,
        ):
            backends.append(connection.info.backend_pid)
            started.set()
            connection.execute("SELECT count(*) FROM generate_series(1, 1e12::bigint)")

    thread = threading.Thread(target=compute)
    thread.start()
    assert started.wait(10)
    server.kill()
    thread.join(10)
    assert not is_running(backends[0])
    server.restart()


def test_the_lock_of_a_killed_server_does_not_prevent_the_next(sandbox_dir: Path) -> None:
    data = sandbox_dir / "postgres"
    first = EmbeddedPostgres(data, fast=True)
    first.start()
    first.kill()
    assert (data / "postmaster.pid").exists()
    with EmbeddedPostgres(data, fast=True) as second:
        assert ask(second, "SELECT 1") == [(1,)]


def test_a_lock_whose_pid_is_another_process_by_now_does_not_either(sandbox_dir: Path) -> None:
    data = sandbox_dir / "postgres"
    first = EmbeddedPostgres(data, fast=True)
    first.start()
    first.kill()
    # The same user as Postgres: another one's process it takes for no Postgres by itself.
    owner = data.stat().st_uid if os.geteuid() == 0 else None
    with subprocess.Popen(["/bin/sleep", "600"], user=owner) as stranger:
        for lock in (data / "postmaster.pid", data / ".s.PGSQL.5432.lock"):
            _, _, rest = lock.read_text().partition("\n")
            lock.write_text(f"{stranger.pid}\n{rest}")
        with EmbeddedPostgres(data, fast=True) as second:
            assert ask(second, "SELECT 1") == [(1,)]
        stranger.kill()


def test_a_path_too_long_for_a_socket_gets_a_folder_elsewhere() -> None:
    with open_folder() as folder:
        deep = folder / ("a" * 60) / ("b" * 60) / "postgres"
        with EmbeddedPostgres(deep, fast=True) as server:
            assert ask(server, "SELECT 1") == [(1,)]
            socket_dir = Path(str(setting(server, "unix_socket_directories")).strip('"'))
            assert socket_dir.exists()
        assert not socket_dir.exists()


def test_an_odd_path_works(sandbox_dir: Path) -> None:
    with EmbeddedPostgres(sandbox_dir / "a b%c,d+ü" / "postgres", fast=True) as server:
        assert ask(server, "SELECT 1") == [(1,)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user")
def test_data_below_a_closed_folder_go_to_the_shelter_and_no_mode_changes(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    data = closed / "postgres"
    with open_folder() as folder:
        for _ in range(2):
            with EmbeddedPostgres(data, fast=True, shelter=folder / "shelter") as server:
                ask(server, "CREATE TABLE IF NOT EXISTS kept (number int)")
                ask(server, "INSERT INTO kept VALUES (1)")
                count = ask(server, "SELECT count(*) FROM kept")
        assert count == [(2,)]
        assert data.is_symlink()
        assert data.resolve().parent == folder / "shelter"
        assert closed.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_no_cluster_gives_postgres_own_reason(sandbox_dir: Path) -> None:
    data = sandbox_dir / "postgres"
    data.mkdir(parents=True, mode=0o700)
    (data / "PG_VERSION").write_text("9.6\n")
    if os.geteuid() == 0:
        os.chown(data, 65534, 65534)
        os.chown(data / "PG_VERSION", 65534, 65534)
    with pytest.raises(SandboxError, match="did not start"):
        EmbeddedPostgres(data, fast=True).start()
