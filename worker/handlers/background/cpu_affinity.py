"""Keeping a process on one core.

Its threads share one interpreter lock: spread over several cores they wake each other across them,
and compute no more than on one. What a message costs falls by a third (bench/README.md).
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from worker.observability.logs import log
from worker.store.workers import WorkerStore

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""The same for all containers of a machine, other than a host name."""
_THREADS = Path("/proc/self/task")


@dataclass(frozen=True, kw_only=True)
class StayOnOneCore:
    """Takes the core that the fewest of our living processes on this machine have."""

    workers: WorkerStore

    def __call__(self) -> None:
        """Bind all threads of this process, and those that they will start.

        After the first heartbeat. Raises `DatabaseAwayError`. Where there is no Linux, or where it
        forbids this (a sandbox's filter of system calls), the process runs as it did.
        """
        try:
            machine, allowed = UUID(_BOOT_ID.read_text().strip()), sorted(os.sched_getaffinity(0))
            core = self.workers.take_core(machine, allowed)
            for thread in _THREADS.iterdir():
                with suppress(ProcessLookupError):  # it has ended
                    os.sched_setaffinity(int(thread.name), {core})
        except OSError as error:
            log.warning("worker.pin_failed", error=type(error).__name__)
        else:
            log.info("worker.pinned", core=core, of=len(allowed))
