"""PgBouncer in transaction mode before an embedded Postgres, where the machine has it."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.support.processes import eventually, open_folder
from tests.support.programs import are_installed

IS_HERE: Final = are_installed("pgbouncer")
_INI: Final = """
[databases]
* = host={host} port={server_port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 5
ignore_startup_parameters = options,extra_float_digits
logfile = {folder}/log
"""


def pgbouncer(socket_of_postgres: Path) -> AbstractContextManager[int]:
    """Run it and give its port on 127.0.0.1. `options` of the startup are dropped."""
    folder = socket_of_postgres.parent
    # The folder of the socket is open to Postgres's own user only.
    return before(str(folder), 5432, folder.stat().st_uid)


@contextmanager
def before(host: str, server_port: int, owner: int) -> Iterator[int]:
    """Run it as this user, as it refuses to run as root, and give its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with open_folder() as folder:
        folder.chmod(0o777)
        ini = folder / "pgbouncer.ini"
        ini.write_text(_INI.format(host=host, server_port=server_port, port=port, folder=folder))
        process = subprocess.Popen(
            ["pgbouncer", "-q", str(ini)], user=owner, stderr=subprocess.DEVNULL, cwd=folder
        )
        try:
            assert eventually(lambda: _listens(port)), (folder / "log").read_text()
            yield port
        finally:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
