"""Redis fails over by Sentinel; the address that workers know follows the primary."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import Redis

from tests.support.fleet import Fleet, Ground, agents_file, fresh_ground
from tests.support.processes import eventually, open_folder
from tests.support.tcp_proxy import TcpProxy
from worker.net.child_process import ChildProcess
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis, _free_port, find_server

NAME = "broker"
SENTINEL = """
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor broker 127.0.0.1 {primary} 1
sentinel auth-pass broker {password}
sentinel down-after-milliseconds broker 500
sentinel failover-timeout broker 5000
"""


@dataclass
class Sentinel:
    """A Sentinel, with the primary and the replica that it watches."""

    client: "Redis"
    primary: EmbeddedRedis
    replica: EmbeddedRedis

    def primary_port(self) -> int:
        host, port = self.client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        assert host == b"127.0.0.1"
        return int(port)


def password_of(server: EmbeddedRedis) -> str:
    return urlsplit(server.url).password or ""


@contextmanager
def watched(folder: Path) -> Iterator[Sentinel]:
    with ExitStack() as stack:
        primary = stack.enter_context(EmbeddedRedis(folder / "primary"))
        replica = stack.enter_context(EmbeddedRedis(folder / "replica"))
        password = password_of(primary)
        with Redis.from_url(replica.url) as admin:
            admin.config_set("masterauth", password)
            admin.config_set("requirepass", password)
        replica._password = password
        with Redis.from_url(primary.url) as admin:
            admin.config_set("masterauth", password)
        with Redis.from_url(replica.url) as admin:
            admin.replicaof("127.0.0.1", primary.port)  # type: ignore[no-untyped-call]
            linked = lambda: admin.info("replication")["master_link_status"] == "up"  # noqa: E731
            assert eventually(linked)
        port, file = _free_port(), folder / "sentinel.conf"
        file.write_text(
            SENTINEL.format(port=port, folder=folder, primary=primary.port, password=password)
        )
        child = ChildProcess(
            [find_server(), file, "--sentinel"], log=folder / "sentinel.log", env={}
        )
        stack.callback(child.stop)
        client = stack.enter_context(Redis(port=port, socket_timeout=2))
        found = Sentinel(client, primary, replica)
        assert eventually(lambda: child.is_running and knows_replica(client))
        yield found


def knows_replica(client: "Redis") -> bool:
    try:
        replicas = client.execute_command("SENTINEL", "REPLICAS", NAME)
    except OSError:
        return False
    except Exception:  # noqa: BLE001 - it starts
        return False
    return len(replicas) == 1


@pytest.mark.parametrize("how", ["killed", "planned"])
def test_workers_follow_redis_to_its_replica(shared_postgres: EmbeddedPostgres, how: str) -> None:
    agents = agents_file(3.0).replace("alive_s = 1.5", "alive_s = 15")
    with (
        open_folder() as folder,
        watched(folder) as sentinel,
        TcpProxy(("127.0.0.1", sentinel.primary.port)) as proxy,
        fresh_ground(shared_postgres, broker_url=sentinel.primary.url, agents=agents) as ground,
    ):
        ground.fleet.start(1, BROKER_URL=sentinel.primary.url_of(0, port=proxy.port))
        before = send(ground, ground.fleet, 5)
        ground.wait_until_final(*before, messages=5)

        if how == "killed":
            sentinel.primary.kill()
        else:
            # The old one goes on as a replica, and refuses what workers ask of it meanwhile.
            sentinel.client.execute_command("SENTINEL", "FAILOVER", NAME)
        assert eventually(lambda: sentinel.primary_port() == sentinel.replica.port, timeout_s=20)
        with Redis.from_url(sentinel.replica.url) as replica:
            assert eventually(lambda: replica.info("replication")["role"] == "master")
        proxy.retarget(("127.0.0.1", sentinel.replica.port))
        proxy.reset_all()

        ground.fleet.broker_url = sentinel.replica.url
        ground.fleet._producer = None
        late = send(ground, ground.fleet, 5)
        ground.wait_until_final(*late, messages=5)
        assert [ground.said(user) for user in late] == [[f"hello from {user}"] for user in late]
        assert ground.fleet.running() == ground.fleet.workers, "the worker stays up"


def send(ground: Ground, fleet: Fleet, number: int) -> list[str]:
    users = [ground.user() for _ in range(number)]
    fleet.send(*(ground.envelope(f"hello from {user}", user=user) for user in users))
    return users
