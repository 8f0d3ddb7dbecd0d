"""The embedded Redis."""

import socket
import threading
from pathlib import Path

import pytest
from redis import Redis

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
