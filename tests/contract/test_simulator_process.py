"""The simulator as a process of its own."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from worker.sandbox.simulator import read_log

pytestmark = pytest.mark.slow

KEY = {"authorization": "Bearer KEY-p"}


@contextmanager
def process(tmp_path: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port_file = tmp_path / "port"
    port_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "worker", "sim", "--port", "0", "--switch", "api_key=KEY-p"]
    log = str(tmp_path / "state" / "telnyx.jsonl")
    command += ["--port-file", str(port_file), "--log", log, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            for _ in range(500):
                if port_file.exists() or running.poll() is not None:
                    break
                time.sleep(0.02)
            yield running, f"http://127.0.0.1:{port_file.read_text().strip()}/v2"
        finally:
            running.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_its_port_and_ends_cleanly_on_a_signal(tmp_path: Path, number: int) -> None:
    with process(tmp_path, "--latency", "30") as (running, url):
        assert httpx.post(f"{url}/ai/conversations", headers=KEY).status_code == 200
        body = {"input": "a"}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/ai/openai/responses", json=body, headers=KEY, timeout=0.2)
        running.send_signal(number)
        assert running.wait(5) == 0
        assert running.stdout is not None
        assert url in running.stdout.read()


def test_threads_survive_a_kill_in_the_middle_of_work(tmp_path: Path) -> None:
    with process(tmp_path, "--latency", "30") as (running, url):
        thread = httpx.post(f"{url}/ai/conversations", headers=KEY).json()["id"]
        body = {"conversation": thread, "input": "a"}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/ai/openai/responses", json=body, headers=KEY, timeout=0.2)
        running.kill()
        running.wait(5)
    with process(tmp_path, "--switch", "messages_order=oldest_first") as (running, url):
        path = f"{url}/ai/conversations/{thread}/messages"
        listed = httpx.get(path, headers=KEY).json()["data"]
        assert [each["text"] for each in listed] == ["a"]
    log = read_log(tmp_path / "state" / "telnyx.jsonl")
    assert [entry.event.kind for entry in log].count("started") == 2


def test_a_setting_that_makes_no_sense_is_said_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "worker", "sim", "--switch", "colour=red"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert ended.returncode == 2
    assert "no such setting: colour" in ended.stderr
