"""The Postgres of a campaign: a primary, a standby that has every commit, a clock that jumps."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg

from tests.support.clusters import commit_on_both, promote, standby_of, wait_until_in_sync
from tests.support.databases import CLOCKED, make_template
from tests.support.tcp_proxy import TcpProxy, postgres_socket
from worker.sandbox.postgres import EmbeddedPostgres

_JUMP = "UPDATE test_clock SET ahead = ahead + make_interval(secs => %s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """A jump of Postgres' clock: all times in its tables are `ahead_s` ahead from then on."""

    at: float
    """In true seconds since 1970."""
    ahead_s: float


@dataclass(kw_only=True)
class Pair:
    """Two servers, each behind a proxy whose port stays; one of them takes writes."""

    folder: Path
    primary: EmbeddedPostgres
    standby: EmbeddedPostgres
    proxy: TcpProxy
    """Leads to the primary."""
    standby_proxy: TcpProxy
    jumps: list[Jump] = field(default_factory=list)
    failovers: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: count(2))

    @property
    def url(self) -> str:
        """Both servers, as the service names them: libpq finds the one that takes writes."""
        return f"postgresql://postgres@127.0.0.1,127.0.0.1/{CLOCKED}?port={self._ports}"

    @property
    def url_past_proxy(self) -> str:
        """The primary, which is another one after a failover."""
        return self.primary.url_of(CLOCKED)

    @property
    def _ports(self) -> str:
        return ",".join(str(port) for port in sorted((self.proxy.port, self.standby_proxy.port)))

    def fail_over(self) -> None:
        """Kill the primary; the standby takes over, alone."""
        wait_until_in_sync(self.primary)
        self.primary.kill()
        self.primary, self.standby = self.standby, self.primary
        self.proxy, self.standby_proxy = self.standby_proxy, self.proxy
        promote(self.primary)
        self.failovers += 1

    def follow(self) -> None:
        """Replace the server that was killed by a copy that follows the other one."""
        self.standby.stop()
        self.standby = standby_of(self.primary, self.folder / f"postgres-{next(self._numbers)}")
        self.standby.start()
        self.standby_proxy.retarget(postgres_socket(self.standby.url))
        commit_on_both(self.primary)

    def jump(self, by_s: float) -> None:
        """Set the clock forward."""
        with psycopg.connect(self.url_past_proxy, autocommit=True) as connection:
            connection.execute(_JUMP, [by_s])
            before_s = self.jumps[-1].ahead_s if self.jumps else 0.0
            self.jumps.append(Jump(at=time.time(), ahead_s=before_s + by_s))


@contextmanager
def running_pair(folder: Path) -> Iterator[Pair]:
    """Start both."""
    primary = EmbeddedPostgres(folder / "postgres", fast=True)
    with primary:
        make_template(primary)
        standby = standby_of(primary, folder / "postgres-1")
        standby.start()
        with (
            TcpProxy(postgres_socket(primary.url)) as proxy,
            TcpProxy(postgres_socket(standby.url)) as standby_proxy,
        ):
            pair = Pair(
                folder=folder,
                primary=primary,
                standby=standby,
                proxy=proxy,
                standby_proxy=standby_proxy,
            )
            try:
                commit_on_both(primary)
                yield pair
            finally:
                pair.standby.stop()
                pair.primary.stop()


def true_time(jumps: Sequence[Jump], at: float) -> float:
    """Return when a time that Postgres' clock showed was; one that it jumped over is the jump's."""
    ahead_s = 0.0
    for one in jumps:
        if at < one.at + ahead_s:
            break
        if at < one.at + one.ahead_s:
            return one.at
        ahead_s = one.ahead_s
    return at - ahead_s


def forget(folder: Path) -> None:
    """Delete everything, and what it leads to."""
    for data in folder.glob("postgres*"):
        if data.is_symlink():
            shutil.rmtree(data.resolve(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
