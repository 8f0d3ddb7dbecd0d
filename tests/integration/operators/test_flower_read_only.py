"""Flower only watches, under every file that we ship: nobody stops a worker or sends a task."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from redis import Redis

from tests.support.cli import bare_env
from tests.support.databases import ROOT
from tests.support.processes import eventually
from worker.cli.local.service import free_port

AUTH = ("ops", "canary")


def of_kubernetes() -> dict[str, str]:
    text = (ROOT / "deploy/kubernetes/flower.yaml").read_text()
    (deployment, *_) = yaml.safe_load_all(text)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (settings, *_) = yaml.safe_load_all((ROOT / "deploy/kubernetes/settings.yaml").read_text())
    return settings["data"] | {one["name"]: one["value"] for one in container["env"]}


def of_systemd() -> dict[str, str]:
    unit = (ROOT / "deploy/systemd/worker-flower.service").read_text()
    pairs = " ".join(re.findall(r"(?m)^Environment=(.*)$", unit)).split()
    return dict(pair.split("=", 1) for pair in pairs)


def of_nobody() -> dict[str, str]:
    """Somebody who types `celery -A worker flower`, with a variable that is set and empty."""
    return {"FLOWER_READ_ONLY": "", "DATABASE_URL": "postgresql://x/x", "TELNYX_API_KEY": "none"}


@contextmanager
def flower(given: Mapping[str, str], broker_url: str, folder: Path) -> Iterator[httpx.Client]:
    port = free_port(0)
    secrets = {"BROKER_URL_FILE": broker_url, "FLOWER_BASIC_AUTH_FILE": ":".join(AUTH)}
    files = {name: folder / name for name in secrets}
    for name, file in files.items():
        file.write_text(secrets[name])
    env = {name: value for name, value in given.items() if name != "AGENTS_FILE"}
    env |= {name: str(file) for name, file in files.items()}
    env |= {"FLOWER_PORT": str(port), "NAMESPACE": "6a09cdc3-8948-47f0-aa62-74ac943d6c58"}
    command = [sys.executable, "-m", "celery", "-A", "worker", "flower"]
    log = folder / "flower.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, env=bare_env(**env), cwd=ROOT, stdout=output, stderr=output
        ) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=AUTH, trust_env=False) as client,
    ):
        try:
            assert eventually(lambda: _answers(client), timeout_s=40), log.read_text()
            yield client
        finally:
            process.terminate()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthcheck").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("given", [of_kubernetes, of_systemd, of_nobody])
def test_a_forged_task_is_refused_and_no_worker_is_stopped(
    given: object, broker_url: str, tmp_path: Path
) -> None:
    assert callable(given)
    with flower(given(), broker_url, tmp_path) as client, Redis.from_url(broker_url) as redis:
        seen = redis.pubsub()
        seen.psubscribe("*pidbox*")
        assert seen.get_message(timeout=5)
        for path, body in (
            ("task/send-task/messages.receive", {"kwargs": {"envelope": {}}, "queue": "inbound"}),
            ("task/async-apply/messages.receive", {"args": []}),
            ("task/apply/messages.receive", {"args": []}),
            ("worker/shutdown/celery@here", {}),
            ("worker/pool/restart/celery@here", {}),
            ("worker/pool/shrink/celery@here", {}),
            ("worker/queue/cancel-consumer/celery@here?queue=inbound", {}),
            ("task/revoke/0?terminate=true", {}),
            ("task/rate-limit/messages.receive?workername=celery@here&ratelimit=1", {}),
        ):
            answer = client.post(f"/api/{path}", json=body)
            assert answer.status_code == httpx.codes.FORBIDDEN, (path, answer.status_code)
        assert redis.llen("inbound") == 0
        told = [seen.get_message(timeout=0.2) for _ in range(5)]
        assert not any(b"shutdown" in one["data"] for one in told if one)
        assert client.get("/workers").status_code == httpx.codes.OK
