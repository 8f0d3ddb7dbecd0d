"""The built packages, each installed into an empty environment, without the checkout."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis

from tests.support.cli import bare_env
from tests.support.databases import ROOT, fresh_database
from tests.support.processes import eventually, open_folder
from tests.support.programs import UV
from worker.sandbox.postgres import EmbeddedPostgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # each test fills an environment


def run(*command: str | Path, cwd: Path, fails: bool = False, **env: str) -> str:
    """Run a command as a person without the checkout does; return its output."""
    named = {name: value for name, value in bare_env(**env).items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(
        command, cwd=cwd, env=named, capture_output=True, text=True, timeout=100, check=False
    )
    said = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, said
    return said


class Packages:
    """What `make dist` builds, and environments that have nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dist = folder / "dist"
        run(UV, "build", "--all-packages", "--out-dir", self.dist, cwd=ROOT)
        self.locked = folder / "locked.txt"
        export = ("export", "--quiet", "--all-extras", "--no-hashes", "--no-emit-workspace")
        run(UV, *export, "--output-file", self.locked, cwd=ROOT)

    def installed(self, name: str, *wanted: str) -> Path:
        """Install into a new environment; return the folder of its commands."""
        place = self.folder / name
        run(UV, "venv", "--quiet", "--python", sys.executable, place, cwd=self.folder)
        install = (UV, "pip", "install", "--quiet", "--python", place / "bin/python")
        found = ("--find-links", self.dist, "--constraint", self.locked)
        run(*install, *found, *wanted, cwd=self.folder)
        return place / "bin"

    def one(self, pattern: str) -> str:
        """Return the path of the built file of this pattern."""
        (found,) = self.dist.glob(pattern)
        return str(found)


@pytest.fixture(scope="module")
def packages() -> Iterator[Packages]:
    with open_folder() as folder:
        yield Packages(folder)


def test_the_wheel_works_alone(
    packages: Packages, shared_postgres: EmbeddedPostgres, broker_url: str
) -> None:
    bin_ = packages.installed("service", f"{packages.one('message_worker-*.whl')}[sandbox]")
    empty = packages.folder / "empty"
    empty.mkdir()
    assert "accepted once, answered once" in run(bin_ / "worker", "demo", cwd=empty)
    with fresh_database(shared_postgres, template="template1") as url:
        here = {"DATABASE_URL": url, "BROKER_URL": broker_url, "NAMESPACE": str(uuid4())}
        run(bin_ / "worker", "migrate", cwd=empty, **here)
        assert "nothing to do" in run(bin_ / "worker", "migrate", cwd=empty, **here)
        with celery_worker(bin_, empty, here | {"TELNYX_API_KEY": "KEY-test"}):
            assert "healthy" in run(bin_ / "worker", "status", cwd=empty, **here)


@contextmanager
def celery_worker(bin_: Path, cwd: Path, env: dict[str, str]) -> Iterator[None]:
    """A worker that is ready, and ends well when it is asked to."""
    said = cwd / "celery.log"
    with said.open("wb") as out:
        process = subprocess.Popen(
            [bin_ / "celery", "-A", "worker", "worker"],
            cwd=cwd,
            env=bare_env(**env),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        ready = eventually(lambda: b" ready." in said.read_bytes(), timeout_s=60)
        assert ready, said.read_text()
        yield
        process.terminate()
        assert process.wait(30) == 0, said.read_text()
    finally:
        process.kill()
        process.wait()


def test_the_sdist_works_alone_and_names_the_extra_for_servers(packages: Packages) -> None:
    bin_ = packages.installed("bare", packages.one("message_worker-*.tar.gz"))
    for command in (["demo"], ["up"], ["sim"], ["chat"]):
        said = run(bin_ / "worker", *command, cwd=packages.folder, fails=True)
        assert "message-worker[sandbox]" in said.strip().splitlines()[-1], said
        assert "Traceback" not in said


PRODUCER = """
import os
from message_worker_client import Producer
with Producer(broker_url=os.environ["BROKER_URL"]) as producer:
    producer.send(channel="web", user="ann", message_id="m-1", text="Hello")
"""


def test_the_client_works_alone_beside_a_program_named_worker(
    packages: Packages, broker_url: str, tmp_path: Path
) -> None:
    bin_ = packages.installed("producer", packages.one("message_worker_client-*.whl"))
    (tmp_path / "worker.py").write_text(PRODUCER)
    run(bin_ / "python", "worker.py", cwd=tmp_path, BROKER_URL=broker_url)
    with Redis.from_url(broker_url) as redis:
        assert redis.llen("inbound") == 1
    by_sql = PRODUCER.replace(
        'broker_url=os.environ["BROKER_URL"]', 'database_url="postgresql:///x"'
    )
    said = run(bin_ / "python", "-c", by_sql, cwd=tmp_path, fails=True)
    assert "install message-worker-client[sql]" in said
    said = run(bin_ / "python", "-c", "import worker", cwd=packages.folder, fails=True)
    assert "No module named 'worker'" in said
