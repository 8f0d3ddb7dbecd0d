"""A Postgres with a standby: two real clusters, the second of which can take over.

with primary_with_standby(folder) as pair:
    pair.wait_until_replayed()
    pair.standby.stop()            # from now on, what the primary commits will be lost
    pair.fail_over()
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.support.databases import CLOCKED, fresh_database, make_template
from tests.support.processes import eventually
from tests.support.tcp_proxy import postgres_socket
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.postgres_place import SHELTER, Place, find_place

_START_S = 60.0
_STATUS_LINE = 7
_ACCEPTING = {"ready", "standby"}


class Standby(EmbeddedPostgres):
    """A server that also counts as started while it follows another one."""

    def _launch_until_ready(self, place: Place, socket_dir: Path) -> None:
        self._child = child = self._launch(place, socket_dir)

        def is_ready() -> bool:
            file = place.data / "postmaster.pid"
            lines = file.read_text().splitlines() if file.exists() else []
            return len(lines) > _STATUS_LINE and lines[_STATUS_LINE].strip() in _ACCEPTING

        assert child.wait_until(is_ready, _START_S), self._log.read_text()[-2000:]


@dataclass
class Pair:
    """A primary and the standby that follows it."""

    primary: EmbeddedPostgres
    standby: Standby
    database: str

    @property
    def url(self) -> str:
        """The database by both hosts, as the service names it."""
        hosts = ",".join(str(postgres_socket(one.url).parent) for one in self.servers)
        return f"postgresql://postgres@/{self.database}?host={hosts}"

    @property
    def url_of_standby(self) -> str:
        return self.standby.url_of(self.database)

    @property
    def servers(self) -> tuple[EmbeddedPostgres, Standby]:
        return self.primary, self.standby

    def wait_until_replayed(self) -> None:
        """Return when the standby has everything."""
        with psycopg.connect(self.primary.url, autocommit=True) as primary:
            asked = "SELECT pg_current_wal_lsn() <= replay_lsn FROM pg_stat_replication"
            assert eventually(lambda: (primary.execute(asked).fetchone() or (False,))[0])

    def commit_on_both(self) -> None:
        commit_on_both(self.primary)

    def fail_over(self) -> None:
        """Kill the primary, and let the standby take over with what it has."""
        self.primary.kill()
        if not self.standby.is_running:
            self.standby.start()
        promote(self.standby)


def commit_on_both(primary: EmbeddedPostgres) -> None:
    """Let no commit of it return before its standby has it."""
    with psycopg.connect(primary.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        connection.execute("SELECT pg_reload_conf()")
    wait_until_in_sync(primary)


def wait_until_in_sync(primary: EmbeddedPostgres) -> None:
    """Return when its standby has all that was committed."""
    asked = "SELECT FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'"
    with psycopg.connect(primary.url, autocommit=True) as connection:
        assert eventually(lambda: connection.execute(asked).fetchone() is not None, timeout_s=30)


def promote(standby: EmbeddedPostgres) -> None:
    """Let it take over, alone for now."""
    with psycopg.connect(standby.url, autocommit=True) as connection:
        assert connection.execute("SELECT pg_promote()").fetchone() == (True,)
        connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
        connection.execute("SELECT pg_reload_conf()")


def standby_of(primary: EmbeddedPostgres, folder: Path) -> Standby:
    """Give a server, not started yet, that follows this one with all it has."""
    with psycopg.connect(primary.url, autocommit=True) as connection:
        # It may be away for a while, and comes back at once.
        connection.execute("ALTER SYSTEM SET wal_keep_size = '256MB'")
        connection.execute("ALTER SYSTEM SET wal_retrieve_retry_interval = '200ms'")
        connection.execute("SELECT pg_reload_conf()")
    _copy(primary, folder)
    return Standby(folder, fast=True)


@contextmanager
def primary_with_standby(folder: Path) -> Iterator[Pair]:
    """Make both, with a migrated database whose clock the test moves."""
    with EmbeddedPostgres(folder / "primary", fast=True) as primary:
        make_template(primary)
        with (
            standby_of(primary, folder / "standby") as standby,
            fresh_database(primary, template=CLOCKED) as url,
        ):
            yield Pair(primary, standby, urlsplit(url).path[1:])
            # Whatever became of it: `fresh_database` clears up there.
            standby.stop()
            primary.restart()
            with psycopg.connect(primary.url, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
                connection.execute("SELECT pg_reload_conf()")


def _copy(primary: EmbeddedPostgres, target: Path) -> None:
    place = find_place(target, SHELTER, None)
    place.data.mkdir(mode=0o700)
    place.give(place.data)
    command = [place.programs / "pg_basebackup", "-D", place.data, "-R", "-U", "postgres"]
    command += ["-h", postgres_socket(primary.url).parent, "--checkpoint=fast"]
    account = place.account
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    # The socket is in the folder of the data: its lock names the primary, which lives.
    (place.data / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
