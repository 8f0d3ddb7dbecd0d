"""Worker processes that are forked, not started: `python -m celery ...` costs a tenth of its CPU.

Multiprocessing's fork server, a process without threads, has imported the libraries and this
package. What it forks is a process like any other (its own session, environment, output, signals),
and runs the module as `python -m` does. `worker.celery` is imported in the fork: it reads settings.

The command line in /proc is the fork server's, so tests of that, of what a start imports, and of
`worker up` start real programs.
"""

import atexit
import ctypes
import multiprocessing
import os
import runpy
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_QUEUE = Path(__file__).parents[2] / "worker" / "queue"

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [
        "tests.support.crashing",
        "celery.bin.celery",
        "celery.bin.worker",
        "celery.apps.worker",
        "celery.concurrency.thread",
        "celery.loaders.app",
        "celery.worker.consumer",
        "kombu.transport.redis",
        *(
            ".".join(("worker", "queue", *file.relative_to(_QUEUE).with_suffix("").parts))
            for file in sorted(_QUEUE.rglob("[a-z]*.py"))
        ),
    ]
)


class ForkedProcess:
    """`python -m MODULE ARGUMENTS`, with `ChildProcess`'s view of it. Output goes to `log`.

    It gets SIGTERM if the test process dies, which ends the fork server.
    """

    def __init__(self, module: str, *arguments: str, log: Path, env: Mapping[str, str]) -> None:
        log.touch()
        self._process = context.Process(
            # Celery's log lines begin with the name.
            name="MainProcess",
            target=_become,
            args=(module, arguments, log, dict(env)),
            daemon=True,
        )
        self._process.start()
        # Multiprocessing reads the exit code from a pipe, once: not from two threads.
        self._lock = threading.Lock()
        self.pid: int = self._process.pid or 0

    @property
    def is_running(self) -> bool:
        return self.exit_code is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative = the signal that ended it."""
        with self._lock:
            return self._process.exitcode

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False when it still runs after `timeout_s`."""
        with self._lock:
            self._process.join(timeout_s)
            return self._process.exitcode is not None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing if it has ended."""
        if self.is_running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL; it is gone on return."""
        self.send_signal(signal.SIGKILL)
        self.wait(10)


def _become(module: str, arguments: Sequence[str], log: Path, env: dict[str, str]) -> None:
    """Turn a fresh fork into the program."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.environ.clear()
    os.environ.update(env)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    sys.stdout = os.fdopen(os.dup(1), "w")
    sys.stderr = os.fdopen(os.dup(2), "w", 1)
    sys.path[:0] = env.get("PYTHONPATH", "").split(os.pathsep)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        # Multiprocessing's children end without these.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
