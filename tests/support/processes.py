"""Looking at processes and making folders for them, on Linux."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that others may enter: root's Postgres is another user, and tmp_path is closed."""
    folder = Path(tempfile.mkdtemp(prefix="worker-tests-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def pids_naming(word: str) -> set[int]:
    """The running processes with `word` in their command line."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if word in command and is_running(int(entry.name)):
            found.add(int(entry.name))
    return found


def eventually(check: Callable[[], bool], *, timeout_s: float = 20.0) -> bool:
    """Poll until `check` is true; its last answer. It is not asked again once it was true."""
    deadline = time.monotonic() + timeout_s
    while not (true := check()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return true
