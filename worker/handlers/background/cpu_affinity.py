"""Keeps a process on one CPU core.

Its threads share one interpreter lock. Spread over several cores they wake each other across cores
and compute no more than on one; on one core a message costs a third less CPU (bench/README.md).
"""

import os
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from worker.observability.logs import log
from worker.store.workers import WorkerStore

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""The same for all containers of a machine, unlike the host name."""
_THREADS = Path("/proc/self/task")


def stay_on_one_core(workers: WorkerStore) -> None:
    """Bind all threads of this process, and those they start, to the least used core.

    That is the core that the fewest live workers on this machine have taken. Call it after the
    first heartbeat. Raises `DatabaseAwayError`. Without Linux, or if a sandbox forbids the system
    call, the process keeps its cores.
    """
    try:
        machine, allowed = UUID(_BOOT_ID.read_text().strip()), sorted(os.sched_getaffinity(0))
        core = workers.take_core(machine, allowed)
        for thread in _THREADS.iterdir():
            # A thread that was listed may have ended since.
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), {core})
    except OSError as error:
        log.warning("worker.pin_failed", error=type(error).__name__)
    else:
        log.info("worker.pinned", core=core, of=len(allowed))
