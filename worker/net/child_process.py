"""A program run as our own child, which cannot outlive us.

Promises:
    - whatever ends this process, SIGKILL too, the child gets a signal to stop (on Linux; elsewhere
      only a normal end sends it)
    - Ctrl-C in a terminal reaches us alone: the child has its own session, we decide when it stops
    - no zombie stays: a thread waits for each child

Linux sends the parent-death signal when the *thread* that forked ends. So the thread that forks a
child then waits for it: it ends when the child has ended, or with the whole process. A small Python
program, this file run as a script, asks for the signal and then becomes the wanted program:
`preexec_fn` would run Python between fork and exec of a process with threads, and may deadlock.
"""

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_KILL_TIMEOUT_S = 10.0
_POLL_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The system user a child runs as; only root can choose."""

    uid: int
    gid: int


class ChildProcess:
    """One running program. Output goes to the end of `log`; None = it writes where we do.

    `stop_signals`: `stop` sends them one after the other, and SIGKILL at the end. The child also
    gets the first one when we die.
    `keep_open`: file descriptors that the child inherits: a lock on one lives as long as the child.
    `umask`: of the files that the child makes; -1 = ours.
    Raises `ChildProcessError` if the program cannot be started at all.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path | None,
        stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,),
        account: Account | None = None,
        env: Mapping[str, str] | None = None,
        keep_open: tuple[int, ...] = (),
        umask: int = -1,
    ) -> None:
        self._stop_signals = stop_signals
        self._parent = os.getpid()
        self._ended = threading.Event()
        spawned: Future[subprocess.Popen[bytes]] = Future()
        spawn = partial(
            subprocess.Popen,
            _wrapped(command, stop_signals[0], account),
            stdin=subprocess.DEVNULL,
            env=env,
            pass_fds=keep_open,
            umask=umask,
            start_new_session=True,
        )
        threading.Thread(
            target=self._run,
            args=(spawned, spawn, log),
            name=f"waits for {command[0]}",
            daemon=True,
        ).start()
        try:
            self._process = spawned.result()
        except (OSError, ValueError) as error:
            raise ChildProcessError(f"{command[0]} cannot be started: {error}") from error
        self.pid: int = self._process.pid
        atexit.register(self._stop_at_exit)

    def _run(
        self,
        spawned: "Future[subprocess.Popen[bytes]]",
        spawn: Callable[..., "subprocess.Popen[bytes]"],
        log: Path | None,
    ) -> None:
        """Fork the child and wait for it, in the one thread whose end would kill it."""
        try:
            with log.open("ab") if log else nullcontext() as output:
                process = spawn(stdout=output, stderr=output)
        except (OSError, ValueError) as error:
            spawned.set_exception(error)
            return
        spawned.set_result(process)
        process.wait()
        self._ended.set()

    @property
    def is_running(self) -> bool:
        """Whether the child has not ended yet."""
        return not self._ended.is_set()

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative = the signal that ended it."""
        return self._process.returncode

    def wait(self, timeout_s: float) -> bool:
        """Wait for the child's end; False when it still runs after `timeout_s`."""
        return self._ended.wait(timeout_s)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing if the child has ended."""
        if self.is_running:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, timeout_s: float = 20.0) -> None:
        """Ask with each stop signal, `timeout_s` apart, then kill. The child is gone on return."""
        for number in self._stop_signals:
            self.send_signal(number)
            if self.wait(timeout_s):
                break
        self.kill()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)
        if not self.wait(_KILL_TIMEOUT_S):
            raise ChildProcessError(f"process {self.pid} does not die")
        atexit.unregister(self._stop_at_exit)

    def _stop_at_exit(self) -> None:
        # A fork of ours inherits the exit hooks, but the child is not its own.
        if os.getpid() == self._parent:
            self.stop()

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> bool:
        """Poll `ready`; False when the child ended first or `timeout_s` passed."""
        deadline = time.monotonic() + timeout_s
        while self.is_running and time.monotonic() < deadline:
            if ready():
                return True
            time.sleep(_POLL_S)
        return False


def _wrapped(
    command: Sequence[str | Path], on_death: signal.Signals, account: Account | None
) -> list[str]:
    """Compose the command line that runs this file, which then becomes `command`."""
    uid, gid = (account.uid, account.gid) if account is not None else (-1, -1)
    # Isolated: a script's own folder comes first on its path, and a module there may have the name
    # of one of the standard library. No site: it starts faster.
    wrapper = [sys.executable, "-I", "-S", __file__]
    return [*wrapper, *(str(n) for n in (os.getpid(), int(on_death), uid, gid)), *map(str, command)]


def _become(parent: int, on_death: int, uid: int, gid: int, command: list[str]) -> None:
    """Turn this process into the program."""
    # A change of user clears the parent-death signal, so it comes first.
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, on_death)
        # The parent may have died before we asked: then nothing would ever send the signal.
        if os.getppid() != parent:
            sys.exit(1)
    # Signals that our parent blocks or ignores would stay so across exec.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    _parent, _on_death, _uid, _gid = map(int, sys.argv[1:5])
    _become(_parent, _on_death, _uid, _gid, sys.argv[5:])
