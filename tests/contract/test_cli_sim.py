"""`worker sim`: the simulator in the foreground."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from worker.cli.errors import CommandError, MisuseError
from worker.cli.local.sim import sim
from worker.sandbox.simulator import read_log

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "worker", "sim"]


@contextmanager
def simulator(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command on a free port; gives the process and its base URL."""
    port_file = folder / "port"
    command = [*COMMAND, "--port", "0", "--port-file", str(port_file), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            deadline = time.monotonic() + 20
            while not port_file.exists() and running.poll() is None:
                assert time.monotonic() < deadline, "it never served"
                time.sleep(0.02)
            yield running, f"http://127.0.0.1:{port_file.read_text().strip()}/v2"
        finally:
            running.kill()


def test_it_serves_says_how_to_reach_it_and_ends_cleanly(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "log"
    settings = ["--switch", "api_key=KEY-mine", "--switch", "created_wrapped=true"]
    with simulator(tmp_path, "--log", str(log), "--latency", "30", *settings) as (running, url):
        headers = {"authorization": "Bearer KEY-mine"}
        made = httpx.post(f"{url}/ai/conversations", headers=headers).json()["data"]["id"]
        body = {"input": "Hello", "conversation": made}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/ai/openai/responses", json=body, headers=headers, timeout=0.3)
        running.send_signal(signal.SIGTERM)
        assert running.wait(5) == 0
        assert running.stdout is not None
        told = running.stdout.read()
    root = url.removesuffix("/v2")
    assert f"export TELNYX_BASE_URL={url} TELNYX_API_KEY=KEY-mine\n" in told
    assert f'OpenAI(base_url="{url}/ai/openai", api_key="KEY-mine")' in told
    assert f"{root}/sim" in told
    assert told.endswith("stopped\n")
    assert "conversation_created" in [entry.event.kind for entry in read_log(log)]


def serve(port: int = 0, *switches: str) -> None:
    sim(
        host="127.0.0.1",
        port=port,
        port_file=None,
        seed=None,
        log=None,
        latency_s=None,
        switch=list(switches),
    )


@pytest.mark.parametrize(
    ("switch", "said"),
    [
        ("colour=red", "no such setting: colour"),
        ("put_metadata", "NAME=VALUE expected, not put_metadata"),
        ("put_metadata=no", "put_metadata: Input should be 'replace' or 'merge'"),
        ('fault_chances={"nonsense":1}', "no such fault: nonsense"),
    ],
)
def test_a_switch_that_makes_no_sense_is_said_in_one_line(switch: str, said: str) -> None:
    with pytest.raises(MisuseError) as caught:
        serve(0, switch)
    assert str(caught.value) == f"--switch: {said}"


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"cannot start: .*{port}") as caught:
            serve(port)
    assert "\n" not in str(caught.value)
