"""Children of ours: how they start, stop, and follow us into death."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.processes import eventually, is_running
from worker.net.child_process import ChildProcess
from worker.sandbox.server import log_tail

SLEEP = ("/bin/sleep", "600")
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""
PARENT = """
import sys, threading, time
from pathlib import Path
from worker.net.child_process import ChildProcess
def start():
    print(ChildProcess(("/bin/sleep", "600"), log=Path(sys.argv[1])).pid, flush=True)
thread = threading.Thread(target=start)
thread.start()
thread.join()
time.sleep(600)
"""


def test_a_child_stops_when_asked(tmp_path: Path) -> None:
    child = ChildProcess(SLEEP, log=tmp_path / "log")
    assert is_running(child.pid)
    child.stop()
    assert not is_running(child.pid)
    assert child.exit_code == -signal.SIGTERM


def test_a_child_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = ChildProcess((sys.executable, "-c", DEAF), log=log)
    assert child.wait_until(lambda: "deaf" in log_tail(log), 10)
    child.stop(timeout_s=0.1)
    assert child.exit_code == -signal.SIGKILL


def has_become_itself(child_pid: int) -> bool:
    """Whether the child is past its preparations: only from then on it is bound to its parent."""
    return Path(f"/proc/{child_pid}/comm").read_text() == "sleep\n"


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    started: list[ChildProcess] = []

    def start() -> None:
        child = ChildProcess(SLEEP, log=tmp_path / "log")
        assert child.wait_until(lambda: has_become_itself(child.pid), 10)
        started.append(child)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert not started[0].wait(0.3)
    started[0].stop()


def test_a_child_follows_a_parent_that_got_sigkill(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path / "log"], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        assert eventually(lambda: has_become_itself(child_pid))
        parent.kill()
    assert eventually(lambda: not is_running(child_pid))


def test_a_child_whose_parent_dies_before_it_is_ready_ends_too(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path / "log"], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        parent.kill()
    assert eventually(lambda: not is_running(child_pid))


def test_a_child_is_out_of_reach_of_the_terminals_interrupt(tmp_path: Path) -> None:
    child = ChildProcess(SLEEP, log=tmp_path / "log")
    assert os.getpgid(child.pid) != os.getpgrp()
    assert os.getsid(child.pid) == child.pid
    child.stop()


def test_a_log_that_cannot_be_opened_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ChildProcessError, match="cannot be started"):
        ChildProcess(SLEEP, log=tmp_path / "missing" / "log")


def test_a_program_that_is_missing_ends_and_leaves_its_reason_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = ChildProcess((tmp_path / "nothing",), log=log)
    assert child.wait(10)
    assert child.exit_code == 1
    assert "FileNotFoundError" in log_tail(log)
    child.stop()
