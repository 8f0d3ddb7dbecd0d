"""Becomes a command that gets SIGTERM when its parent dies, by whatever signal (on Linux).

Run as a script: `die_with_parent.py PARENT_PID COMMAND ...`. The parent's thread that started it
must live as long as the parent. `preexec_fn` would do the same inside a fork of a process with
threads, where Python may deadlock.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _become(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we had asked
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
