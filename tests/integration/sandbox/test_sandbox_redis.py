"""The embedded Redis."""

import socket
import subprocess
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import AuthenticationError, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.sandbox.redis import EmbeddedRedis, find_server


def connect(server: EmbeddedRedis) -> Redis:
    return Redis.from_url(server.url, decode_responses=True)


def fake_program(folder: Path, name: str, says: str) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program


def test_it_answers_keeps_a_file_and_evicts_nothing(redis_server: EmbeddedRedis) -> None:
    with connect(redis_server) as client:
        assert client.ping()
        assert client.config_get("appendonly")["appendonly"] == "yes"
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("bind")["bind"] == "127.0.0.1"


def test_nobody_without_its_password_gets_in(redis_server: EmbeddedRedis) -> None:
    with Redis(port=redis_server.port, retry=Retry(NoBackoff(), 0)) as stranger:
        for command in ("PING", "KEYS *", "FLUSHALL", "CONFIG SET dir /tmp"):
            with pytest.raises(AuthenticationError):
                stranger.execute_command(*command.split())
    with connect(redis_server) as client:
        assert client.ping()
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    password = urlsplit(redis_server.url).password or "none"
    assert password not in running.stdout, "command lines are open to everybody"


def test_its_files_are_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir(mode=0o755)  # as earlier versions left it
    with EmbeddedRedis(folder) as server, connect(server) as client:
        client.set("kept", "7")
        client.bgrewriteaof()
        assert folder.stat().st_mode & 0o777 == 0o700
        made = [file for file in folder.rglob("*") if file.is_file()]
        assert len(made) > 1
        assert not [file for file in made if file.stat().st_mode & 0o077]


def test_it_names_its_version(redis_server: EmbeddedRedis) -> None:
    with connect(redis_server) as client:
        assert client.info("server")["redis_version"] == redis_server.version != ""


def test_data_and_port_survive_a_kill(redis_server: EmbeddedRedis) -> None:
    url = redis_server.url
    with connect(redis_server) as client:
        client.set("kept", "7")
        redis_server.kill()
        assert not redis_server.is_running
        redis_server.restart()
        assert redis_server.url == url
        assert client.get("kept") == "7"


def test_data_are_kept_between_starts(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server, connect(server) as client:
        client.set("kept", "7")
    with EmbeddedRedis(tmp_path / "redis") as server, connect(server) as client:
        assert client.get("kept") == "7"


def test_the_url_is_kept_between_starts_while_its_port_is_free(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        noted = server.url
    with EmbeddedRedis(tmp_path / "redis") as server:
        assert server.url == noted
    taken = socket.create_server(("127.0.0.1", urlsplit(noted).port or 0))
    with taken, EmbeddedRedis(tmp_path / "redis") as server, connect(server) as client:
        assert server.url != noted
        assert client.ping()


def test_a_restart_waits_for_its_port(redis_server: EmbeddedRedis) -> None:
    redis_server.stop()
    port = redis_server.port
    thief = socket.create_server(("127.0.0.1", port))
    release = threading.Timer(0.5, thief.close)
    release.start()
    redis_server.restart()
    release.join()
    assert redis_server.port == port
    with connect(redis_server) as client:
        assert client.ping()


def test_with_none_on_the_path_the_wheels_own_runs(tmp_path: Path) -> None:
    with (
        EmbeddedRedis(tmp_path / "redis", search_path="") as server,
        connect(server) as client,
    ):
        assert client.info("server")["executable"] == str(find_server(""))
        assert client.info("server")["redis_version"] == "6.2.14"


@pytest.mark.parametrize(
    ("name", "says", "wanted"),
    [
        ("redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc", True),
        ("valkey-server", "Valkey server v=8.0.1 sha=00000000:0 malloc=jemalloc", True),
        ("redis-server", "Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc", False),
        ("redis-server", "something else", False),
    ],
)
def test_one_on_the_path_is_taken_from_6_2_on(
    tmp_path: Path, name: str, says: str, *, wanted: bool
) -> None:
    program = fake_program(tmp_path, name, says)
    assert (find_server(str(tmp_path)) == program) is wanted
