"""The server of a process's metrics, and the file by which Prometheus finds it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from worker.observability.metrics import REGISTRY
from worker.observability.metrics_server import MetricsServer


def exposition(*, port: int = 0, files: Path | None = None) -> MetricsServer:
    return MetricsServer(REGISTRY, host="127.0.0.1", port=port, files=files)


def test_a_process_is_found_by_a_file_that_goes_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    shown = exposition(files=folder)
    assert shown.start()
    (file,) = folder.iterdir()
    (group,) = json.loads(file.read_text())
    assert group["targets"] == [f"{socket.gethostname()}:{shown.port}"]
    assert "worker_turns_settled" in httpx.get(f"http://127.0.0.1:{shown.port}/metrics").text
    shown.stop()
    assert list(folder.iterdir()) == []


def test_what_a_killed_process_left_behind_is_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = socket.gethostname()
    dead, other = tmp_path / f"worker-{host}-{gone.pid}.json", tmp_path / "worker-other-1.json"
    alive = tmp_path / f"worker-{host}-{os.getppid()}.json"
    longer = (
        tmp_path / f"worker-{host}-2-{gone.pid}.json"
    )  # of the host `app-2`, where we are `app`
    for file in (dead, other, alive, longer):
        file.write_text("[]")
    shown = exposition(files=tmp_path)
    assert shown.start()
    shown.stop()
    assert set(tmp_path.iterdir()) == {other, alive, longer}


def test_a_port_that_is_taken_costs_the_metrics_and_nothing_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        shown = exposition(port=taken.getsockname()[1])
        assert not shown.start()
        assert shown.port is None
        shown.stop()


def test_a_folder_that_cannot_be_written_costs_the_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shown = exposition(files=tmp_path / "file")
    assert shown.start()
    shown.stop()
