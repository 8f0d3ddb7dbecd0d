"""What the operating system says about processes, and what machine this is. Linux only."""

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
    """Give a process and all that descend of it."""
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
    """CPU time of a process tree so far, user and system, children that ended included."""
    total = 0
    for one in tree(pid):
        try:
            total += sum(map(int, _stat(one)[11:15]))  # utime, stime, cutime, cstime
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total / _TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Resident memory of one process, in MB (10^6 bytes), shared pages included."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def pss_mb(pid: int) -> float:
    """Memory of a process tree, each shared page counted once, divided among its sharers."""
    total = 0
    for one in tree(pid):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total * 1024 / 1e6


def threads(pid: int) -> int:
    """Threads of one process."""
    return int(_stat(pid)[17])


def describe() -> dict[str, object]:
    """Tell what the numbers were measured on."""
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
    """Measure what a commit waits for."""
    took = []
    with tempfile.TemporaryFile() as file:
        for _ in range(21):
            file.write(b"x" * 8192)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1000)
    return median(took)
