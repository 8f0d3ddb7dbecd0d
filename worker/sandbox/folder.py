"""The sandbox's folder: its holder, and how other commands find the servers in it.

    lock        the holder's pid, locked while it or one of its servers lives. The servers inherit
                the lock, so a new start cannot meet those of a killed holder as they finish
    env         mode 0600, there only while it runs: the settings that lead a worker here
    namespace   made once
    logs/ postgres/ redis/ simulator/

Deleting the whole folder is the way to start afresh.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from worker.sandbox.server import SandboxError

# `running_sandbox` takes the lock for an instant.
_LIVING_HOLDER_TIMEOUT_S = 1.0
# Its servers finish.
_DEAD_HOLDER_TIMEOUT_S = 30.0


def running_sandbox(directory: Path) -> dict[str, str]:
    """Read the settings of the sandbox that runs in this folder; empty if none runs."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return {}
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        # It is just starting or stopping.
        with suppress(FileNotFoundError):
            lines = (directory / "env").read_text().splitlines()
            return dict(line.split("=", 1) for line in lines)
    finally:
        os.close(descriptor)
    return {}


@contextmanager
def held(directory: Path) -> Iterator[int]:
    """Hold the folder's lock; gives its descriptor. Closing ours frees it once no child has one."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _wait_for_lock(descriptor, directory)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, directory: Path) -> None:
    began_at = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited_s = time.monotonic() - began_at
            holder = os.pread(descriptor, 32, 0).decode().strip()
            if _is_alive(holder) and waited_s > _LIVING_HOLDER_TIMEOUT_S:
                raise SandboxError(
                    f"the sandbox in {directory} is already running, held by process {holder}: "
                    "stop that one first, or set SANDBOX_DIR to another folder"
                ) from None
            if waited_s > _DEAD_HOLDER_TIMEOUT_S:
                raise SandboxError(
                    f"servers of an earlier sandbox in {directory} are still running, although "
                    f"process {holder} which started them is gone: end them, or set SANDBOX_DIR"
                ) from None
            time.sleep(0.05)
        else:
            return


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def namespace_of(directory: Path) -> str:
    """Read the folder's namespace; the first call makes it."""
    file = directory / "namespace"
    if not file.exists():
        file.write_text(f"{uuid4()}\n")
    return file.read_text().strip()


def write_private(file: Path, text: str) -> None:
    """Write a file that only we may read, the whole of it at once."""
    half_written = file.with_suffix(".new")
    half_written.unlink(missing_ok=True)
    descriptor = os.open(half_written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as output:
        output.write(text)
    half_written.replace(file)
