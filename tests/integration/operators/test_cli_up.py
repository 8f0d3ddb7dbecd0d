"""`worker up`: how it starts, and that nothing stays however it ends."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.support.cli import bare_env, invoke, pids_with, worker_up
from tests.support.databases import fresh_database
from tests.support.processes import eventually, is_running
from worker.sandbox.folder import running_sandbox
from worker.sandbox.postgres import EmbeddedPostgres

WITHOUT_SANDBOX = """
import sys
sys.modules["worker.sandbox"] = None
from worker.cli import main
sys.argv = ["worker", "up", "--no-flower"]
main()
"""


@pytest.mark.slow
def test_flower_asks_for_the_password_in_the_banner_and_ctrl_c_leaves_nothing(
    sandbox_dir: Path, tmp_path: Path
) -> None:
    env = {"SANDBOX_DIR": str(sandbox_dir)}
    with worker_up(env=env, output=tmp_path / "up.log") as up:
        up.await_text("the service is up")
        up.await_text("stop      Ctrl-C")
        banner = up.output.read_text(errors="replace")
        found = re.search(r"(http://127\.0\.0\.1:\d+).*\n.*user worker  password (\S+)", banner)
        assert found is not None, banner
        url, password = found.groups()

        def status(auth: tuple[str, str] | None) -> int:
            try:
                return httpx.get(f"{url}/", auth=auth).status_code
            except httpx.TransportError:
                return 0

        assert eventually(lambda: status(("worker", password)) == 200)
        assert status(None) == 401
        assert status(("worker", "wrong")) == 401
        up.interrupt()
        assert up.exit_code() == 0
        assert up.says("stopped")
        assert up.children() == set()


@pytest.mark.slow
def test_nothing_outlives_its_sudden_death(sandbox_dir: Path, tmp_path: Path) -> None:
    # There is no such mailbox; its reader goes on trying.
    env = {"SANDBOX_DIR": str(sandbox_dir), "IMAP_URL": "imap://u:p@127.0.0.1:1?plain=true"}
    with worker_up(env=env, output=tmp_path / "up.log") as up:
        up.await_text("worker mail-in < mail.eml, the mailbox of IMAP_URL")
        started = up.children()
        # worker, gateway, Flower, Postgres, Redis, simulator, the mailbox's reader
        assert len(started) >= 7
        up.process.kill()
        assert eventually(lambda: not any(map(is_running, started)), timeout_s=15)
        assert up.children() == set()


@pytest.mark.slow
def test_a_worker_that_dies_is_said_and_ends_it_all(sandbox_dir: Path, tmp_path: Path) -> None:
    env = {"SANDBOX_DIR": str(sandbox_dir)}
    with worker_up("--no-flower", env=env, output=tmp_path / "up.log") as up:
        up.await_text("the service is up")
        os.kill(up.celery_worker(), signal.SIGKILL)
        assert up.exit_code() == 1
        assert up.says("the worker ended by itself, with exit code -9")
        assert up.children() == set()


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait_for_the_reply(sandbox_dir: Path, tmp_path: Path) -> None:
    env = {"SANDBOX_DIR": str(sandbox_dir)}
    with worker_up("--no-flower", env=env, output=tmp_path / "up.log") as up:
        up.await_text("the service is up")
        found = running_sandbox(sandbox_dir)
        slow = f"{found['TELNYX_BASE_URL'].removesuffix('/v2')}/sim/config"
        assert httpx.post(slow, json={"latency_s": 60}).status_code == 401
        key = {"Authorization": f"Bearer {found['TELNYX_API_KEY']}"}
        httpx.post(slow, json={"latency_s": 60}, headers=key).raise_for_status()
        invoke("send", "--channel", "web", "--user", "a", "--text", "x", env=env)
        log = sandbox_dir / "simulator" / "telnyx.jsonl"
        assert eventually(lambda: b'"endpoint":"responses"' in log.read_bytes())
        up.interrupt()
        up.await_text("replies in flight are finished first")
        with pytest.raises(subprocess.TimeoutExpired):
            up.exit_code(timeout_s=2)
        up.interrupt()
        assert up.exit_code(timeout_s=20) == 0
        assert up.says("stopping at once")
        assert up.children() == set()


def test_a_configured_database_that_lacks_migrations_is_not_touched(
    shared_postgres: EmbeddedPostgres, broker_url: str, sandbox_dir: Path
) -> None:
    with fresh_database(shared_postgres, template="template1") as url:
        env = {"DATABASE_URL": url, "BROKER_URL": broker_url, "TELNYX_API_KEY": "KEY-x"}
        env |= {"NAMESPACE": str(uuid4()), "SANDBOX_DIR": str(sandbox_dir)}
        said = invoke("up", "--no-flower", env=env)
        assert said.returncode == 2
        assert "run `worker migrate`, or `worker up --migrate`" in said.stderr
        assert invoke("migrate", "--check", env=env).returncode == 1


@pytest.mark.slow
def test_where_all_is_configured_nothing_of_the_sandbox_is_imported(
    database_url: str, broker_url: str, sandbox_dir: Path, tmp_path: Path
) -> None:
    env = {"DATABASE_URL": database_url, "BROKER_URL": broker_url, "TELNYX_API_KEY": "KEY-x"}
    env |= {"NAMESPACE": str(uuid4()), "SANDBOX_DIR": str(sandbox_dir)}
    log = tmp_path / "up.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [sys.executable, "-c", WITHOUT_SANDBOX],
            env=bare_env(**env),
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        ready = eventually(
            lambda: b"the service is up" in log.read_bytes() or process.poll() is not None,
            timeout_s=60,
        )
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    assert ready
    assert "embedded" not in log.read_text()
    assert not sandbox_dir.exists()
    assert pids_with(str(sandbox_dir)) == set()
