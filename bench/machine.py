"""Reads CPU and memory of processes, and describes the machine. Linux only."""

import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PACKAGES = ("celery", "kombu", "httpx", "openai", "psycopg", "redis", "sqlalchemy")


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(_stat(int(entry.name))[1])
        except (FileNotFoundError, ProcessLookupError, IndexError):
            continue
        parents.setdefault(parent, []).append(int(entry.name))
    found, open_ = [], [pid]
    while open_:
        found.append(one := open_.pop())
        open_ += parents.get(one, [])
    return found


def _stat(pid: int) -> list[str]:
    """Read "pid (name) state ppid ...", without pid and name: proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process tree, user and system, including children that ended."""
    total = 0
    for one in tree(pid):
        try:
            total += sum(map(int, _stat(one)[11:15]))  # utime, stime, cutime, cstime
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total / _TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process, in MB (10^6 bytes), including shared pages."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def pss_mb(pid: int) -> float:
    """Return the memory of a process tree in MB; a shared page is divided among its processes."""
    total = 0
    for one in tree(pid):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total * 1024 / 1e6


def threads(pid: int) -> int:
    """Return the number of threads of a process."""
    return int(_stat(pid)[17])


def describe() -> dict[str, object]:
    """Return a description of the machine."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "fdatasync_ms": round(_fdatasync_ms(), 3),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _fdatasync_ms() -> float:
    """Measure one fdatasync, for which a commit waits."""
    took = []
    with tempfile.TemporaryFile() as file:
        for _ in range(21):
            file.write(b"x" * 8192)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    return median(took)
