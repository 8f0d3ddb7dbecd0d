"""The part of an embedded server that all of them share: one child process and its log."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from worker.net.child_process import Account, ChildProcess


class SandboxError(Exception):
    """A server did not start, or the folder is taken. Its text is for the person who tried."""


class EmbeddedServer(ABC):
    """One server over `data_dir`, which the first start makes and `stop` keeps.

    `log`: the server's own log; None = beside the data.
    `keep_open`: see ChildProcess.
    """

    name: ClassVar[str]

    def __init__(self, data_dir: Path, *, log: Path | None, keep_open: tuple[int, ...]) -> None:
        self._data_dir = data_dir.absolute()
        self._log = log or self._data_dir.with_name(f"{self._data_dir.name}.log")
        self._keep_open = keep_open
        self._child: ChildProcess | None = None

    @property
    def pid(self) -> int:
        """The server's process id. Raises `SandboxError` before the first start."""
        if self._child is None:
            raise self._not_running()
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether the server lives."""
        return self._child is not None and self._child.is_running

    @abstractmethod
    def start(self) -> None:
        """Start it, and return when it is ready. Raises `SandboxError`."""

    def stop(self) -> None:
        """Let it write its memory to disk and end; the data stay."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """Send SIGKILL: only its files survive."""
        if self._child is not None:
            self._child.kill()

    def restart(self) -> None:
        """Stop it if it runs, and start it over the same data, at the same URL."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _not_running(self) -> SandboxError:
        return SandboxError(f"{self.name} is not running")

    def _refuse_second_start(self) -> None:
        if self.is_running:
            raise SandboxError(f"{self.name} is already running")

    def _spawn(
        self,
        command: Sequence[str | Path],
        *,
        stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,),
        account: Account | None = None,
    ) -> ChildProcess:
        return ChildProcess(
            command,
            log=self._log,
            stop_signals=stop_signals,
            account=account,
            keep_open=self._keep_open,
            # Data and logs hold what people write.
            umask=0o077,
        )


def make_private(folder: Path) -> None:
    """Make a folder that only we may enter; one of an earlier version is closed, too."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def size_of(log: Path) -> int:
    """Return the bytes in a file that may not exist yet."""
    return log.stat().st_size if log.exists() else 0


def log_tail(log: Path, since_bytes: int = 0, lines: int = 8) -> str:
    """Read the last lines that were written to `log` after its first `since_bytes`."""
    try:
        written = log.read_bytes()[since_bytes:]
    except FileNotFoundError:
        return ""
    return "\n".join(written.decode(errors="replace").splitlines()[-lines:])
