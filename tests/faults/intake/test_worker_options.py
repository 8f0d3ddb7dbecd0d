"""Options of `celery -A worker worker`: each is followed, or refused in one line."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.solo import TaskPool as SoloPool
from celery.concurrency.thread import TaskPool

from tests.support.cli import bare_env
from tests.support.fleet import agents_file, fresh_ground
from tests.support.secret_files import GIVEN, OTHERS
from worker.queue.lifecycle import RunService
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis

MOST_AT_ONCE = """
SELECT max((SELECT count(*) FROM calls b WHERE b.intent_at <= a.intent_at
    AND b.finished_at > a.intent_at)) FROM calls a
"""


def test_concurrency_of_the_command_line_is_followed_by_the_slots(
    shared_postgres: EmbeddedPostgres, shared_redis: EmbeddedRedis
) -> None:
    with fresh_ground(
        shared_postgres, broker_url=shared_redis.url, agents=agents_file(6.0)
    ) as ground:
        ground.fleet.options += ("-c", "18")
        ground.fleet.start()
        ground.simulator.reconfigure(latency_s=0.5)
        users = [ground.user() for _ in range(6)]
        ground.fleet.send(*(ground.envelope("hello", user=user) for user in users))
        ground.wait_until_final(*users, messages=6)
        assert ground.database.value(MOST_AT_ONCE) == 2


def start(*options: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "celery", "-A", "worker", "worker", *options],
        env=bare_env(**GIVEN, **OTHERS, **env),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("options", [("-P", "prefork"), ("-c", "16")])
def test_options_that_cannot_be_followed_end_the_worker_in_one_line(
    options: tuple[str, ...],
) -> None:
    done = start(*options)
    assert done.returncode == 1
    assert done.stderr.startswith(("worker: it runs on threads", "worker: -c 16: give a number"))
    assert done.stderr.count("\n") == 1


def test_an_agents_file_that_only_the_start_finds_wrong_ends_the_worker_in_one_line(
    tmp_path: Path,
) -> None:
    file = tmp_path / "agents.toml"
    file.write_text("[channels.web.delivery]\nurl = 'https://x.example/'\nsecret_env = 'NO_KEY'\n")
    done = start(AGENTS_FILE=str(file))
    place = "AGENTS_FILE: channels.web.delivery: secret_env"
    assert done.stderr == f"worker: {place}: NO_KEY is not set: set it\n"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"pool_cls": SoloPool}, "leave out -P"),
        ({"pool_cls": TaskPool, "autoscale": (50, 20)}, "leave out --autoscale"),
    ],
)
def test_other_pools_and_autoscaling_are_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(SystemExit, match=named):
        RunService(SimpleNamespace(**{"autoscale": None, **given}))
