"""PgBouncer in transaction mode before an embedded Postgres, where the machine has it."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.support.processes import eventually, open_folder
from tests.support.programs import are_installed

IS_HERE: Final = are_installed("pgbouncer")
_INI: Final = """
[databases]
* = host={socket} port=5432 user=postgres
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


@contextmanager
def pgbouncer(socket_of_postgres: Path) -> Iterator[int]:
    """Run it and give its port on 127.0.0.1. `options` of the startup are dropped."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    owner = socket_of_postgres.parent.stat().st_uid
    with open_folder() as folder:
        folder.chmod(0o777)
        ini = folder / "pgbouncer.ini"
        ini.write_text(_INI.format(socket=socket_of_postgres.parent, port=port, folder=folder))
        # It refuses to run as root; the folder of the socket is open to Postgres's own user only.
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
