"""The sandbox as a whole: one holder a folder, an env file to attach by, nothing left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import UUID

import httpx
import psycopg
import pytest
from redis import Redis

from tests.support.processes import eventually, is_running, pids_naming
from worker.sandbox.folder import running_sandbox
from worker.sandbox.sandbox import Sandbox, SandboxUrls
from worker.sandbox.server import SandboxError

pytestmark = pytest.mark.slow

HOLDER = """
import sys, threading, time
from pathlib import Path
from worker.sandbox.sandbox import Sandbox
sandbox = Sandbox(Path(sys.argv[1]))
thread = threading.Thread(target=sandbox.start)
thread.start()
thread.join()
print(sandbox.postgres.pid, sandbox.redis.pid, sandbox.simulator.pid, flush=True)
time.sleep(600)
"""


SMALL_HOLDER = """
import sys, time
from pathlib import Path
from worker.sandbox.sandbox import Sandbox
with Sandbox(Path(sys.argv[1]), postgres=False, simulator=False) as sandbox:
    print(sandbox.redis.pid, flush=True)
    time.sleep(600)
"""


def small(directory: Path) -> Sandbox:
    return Sandbox(directory, postgres=False, simulator=False)


def assert_reachable(urls: SandboxUrls) -> None:
    assert urls.database_url is not None
    assert urls.broker_url is not None
    with psycopg.connect(urls.database_url) as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
    with Redis.from_url(urls.broker_url) as client:
        assert client.ping()
    answer = httpx.get(
        f"{urls.telnyx_base_url}/ai/conversations",
        headers={"Authorization": f"Bearer {urls.telnyx_api_key}"},
    )
    assert answer.status_code == 200


def test_all_parts_are_reachable_and_all_are_gone_after(sandbox_dir: Path) -> None:
    with Sandbox(sandbox_dir) as sandbox:
        assert_reachable(sandbox.urls)
        key = str(sandbox.urls.telnyx_api_key)
        shown = [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids_naming(str(sandbox_dir))]
        assert any("--key-file" in one for one in shown)
        assert not any(key in one for one in shown), "all users of a machine can list these"
        controls = f"{sandbox.urls.telnyx_base_url}".replace("/v2", "/sim/log")
        assert httpx.get(controls).status_code == 401
        assert httpx.get(controls, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert not pids_naming(str(sandbox_dir))


def test_data_and_namespace_are_kept_between_starts(sandbox_dir: Path) -> None:
    with small(sandbox_dir) as sandbox:
        namespace = sandbox.urls.namespace
        with Redis.from_url(str(sandbox.urls.broker_url)) as client:
            client.set("kept", "7")
    with small(sandbox_dir) as sandbox:
        assert sandbox.urls.namespace == namespace == str(UUID(namespace))
        with Redis.from_url(str(sandbox.urls.broker_url)) as client:
            assert client.get("kept") == b"7"


def test_other_commands_attach_by_a_private_file_that_goes_with_it(sandbox_dir: Path) -> None:
    env_file = sandbox_dir / "env"
    assert running_sandbox(sandbox_dir) == {}
    with small(sandbox_dir) as sandbox:
        assert env_file.stat().st_mode & 0o777 == 0o600
        assert running_sandbox(sandbox_dir) == sandbox.urls.as_env()
        assert set(sandbox.urls.as_env()) == {"BROKER_URL", "NAMESPACE"}
    assert not env_file.exists()
    assert running_sandbox(sandbox_dir) == {}


def test_a_second_start_says_who_holds_the_folder_and_what_to_do(sandbox_dir: Path) -> None:
    with small(sandbox_dir) as sandbox:
        with pytest.raises(SandboxError) as refusal:
            small(sandbox_dir).start()
        assert str(os.getpid()) in str(refusal.value)
        assert "SANDBOX_DIR" in str(refusal.value)
        assert running_sandbox(sandbox_dir) == sandbox.urls.as_env()


def test_a_start_that_fails_half_way_leaves_nothing(sandbox_dir: Path) -> None:
    data = sandbox_dir / "postgres"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(SandboxError, match="Postgres did not start"):
        Sandbox(sandbox_dir).start()
    assert not pids_naming(str(sandbox_dir))
    assert running_sandbox(sandbox_dir) == {}
    with small(sandbox_dir):
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_holder_that_is_killed_leaves_no_server_and_a_folder_that_starts_again(
    sandbox_dir: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, sandbox_dir], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        servers = [int(pid) for pid in holder.stdout.readline().split()]
        assert len(servers) == 3
        assert all(map(is_running, servers))
        holder.send_signal(number)
    # At once: the start has to wait for the old servers, then none of them may be left.
    with Sandbox(sandbox_dir) as sandbox:
        assert not any(map(is_running, servers))
        assert_reachable(sandbox.urls)
    assert eventually(lambda: not pids_naming(str(sandbox_dir)))
    assert running_sandbox(sandbox_dir) == {}


def test_a_start_waits_while_a_server_of_a_killed_holder_still_works(sandbox_dir: Path) -> None:
    """Two Redis on one append-only file would spoil it."""
    with subprocess.Popen(
        [sys.executable, "-c", SMALL_HOLDER, sandbox_dir], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        redis_pid = int(holder.stdout.readline())
        os.kill(redis_pid, signal.SIGSTOP)
        holder.kill()
    thaw = threading.Timer(1.0, os.kill, (redis_pid, signal.SIGCONT))
    thaw.start()
    began_at = time.monotonic()
    with small(sandbox_dir):
        assert time.monotonic() - began_at >= 0.9
        assert not is_running(redis_pid)
    thaw.join()
