"""The broker's URL: one reading for every part, and nothing of it is ever shown."""

import ssl
from pathlib import Path
from urllib.parse import unquote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from message_worker_client import Producer, ProducerError
from message_worker_client.broker_url import read_broker_url
from message_worker_client.redis_client import redis_client
from worker.config.settings import SettingsError, load_settings

CA = __file__  # any file that is there


def test_a_url_is_read_whole() -> None:
    read = read_broker_url("redis://us%2Fer:p%40ss%23@redis.example:6380/3")
    assert (read.host, read.port, read.database) == ("redis.example", 6380, 3)
    assert (read.user, read.password) == ("us/er", "p@ss#")
    assert read.use_ssl is False
    assert "p@ss" not in repr(read)


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("redis://h", "redis://h/0"),
        ("redis://h/", "redis://h/0"),
        ("redis://h?db=4", "redis://h/4"),
        ("redis://h:1/2?socket_timeout=60&health_check_interval=3", "redis://h:1/2"),
        ("rediss://u:p%2F@h:1/2?ssl_cert_reqs=none", "rediss://u:p%2F@h:1/2"),
        ("redis://[::1]:1/2", "redis://[::1]:1/2"),
        ("redis://a:1/0;redis://b:2/0", "redis://a:1/0;redis://b:2/0"),
        ("amqp://u:p@h//", "amqp://u:p@h//"),
        ("amqps://u:p@h/v%2Fhost?ssl_cert_reqs=none&heartbeat=3", "amqps://u:p@h/v%2Fhost"),
        ("amqp://a//;amqp://b//", "amqp://a//;amqp://b//"),
    ],
)
def test_celery_gets_it_without_options(url: str, bare: str) -> None:
    assert read_broker_url(url).bare == bare


def test_a_prefix_is_read_apart_and_is_for_redis_alone() -> None:
    read = read_broker_url("redis://h?prefix=shop:staging-")
    assert (read.prefix, read.bare) == ("shop:staging-", "redis://h/0")
    for url, fix in (
        ("amqp://h//?prefix=a", "virtual host"),
        ("redis://h?prefix=a*", "letters"),
        ("redis://h?prefix=a.b", "letters"),
        ("redis://a?prefix=a;redis://b", "the same options"),
    ):
        with pytest.raises(ValueError, match=fix):
            read_broker_url(url)


@pytest.mark.parametrize("scheme", ["rediss", "amqps"])
@pytest.mark.parametrize(
    "spelled", ["", *(f"?ssl_cert_reqs={it}" for it in ("required", "CERT_REQUIRED", "Optional"))]
)
def test_tls_is_verified_unless_it_is_switched_off(scheme: str, spelled: str) -> None:
    read = read_broker_url(f"{scheme}://h{spelled}")
    assert read.tls is not None
    assert (read.tls.verify, read.tls.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("spelled", ["none", "CERT_NONE", "None"])
def test_tls_is_not_verified_if_that_is_what_is_wanted(spelled: str) -> None:
    read = read_broker_url(f"rediss://h?ssl_cert_reqs={spelled}")
    assert read.use_ssl == {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False}


def test_files_and_names_reach_each_library_in_its_own_words() -> None:
    options = f"?ssl_ca_certs={CA}&ssl_certfile={CA}&ssl_keyfile={CA}"
    assert read_broker_url(f"rediss://h{options}").use_ssl == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
        "ssl_ca_certs": CA,
        "ssl_certfile": CA,
        "ssl_keyfile": CA,
    }
    assert read_broker_url(f"amqps://h{options}").use_ssl == {
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": "h",
        "ca_certs": CA,
        "certfile": CA,
        "keyfile": CA,
    }
    unnamed = read_broker_url("rediss://h?ssl_check_hostname=false").use_ssl
    assert unnamed == {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": False}


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("redis://h/x", "number of a database"),
        ("redis://h/0/1", "number of a database"),
        ("redis://h?db=x", "number of a database"),
        ("redis://h?ssl_cert_reqs=none", "need rediss://"),
        ("amqp://h?ssl_ca_certs=/x", "need amqps://"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs: give required"),
        ("rediss://h?ssl_check_hostname=maybe", "ssl_check_hostname: give true"),
        ("rediss://h?ssl_ca_certs=/no/such/file", "ssl_ca_certs: there is no such file"),
        ("rediss://h?ssl_ca=/x", r"unknown options \(ssl_ca\)"),
        ("redis://a/0;rediss://b/0", "same scheme"),
        ("amqps://a//;amqps://b//", "several hosts"),
        ("http://h", "give redis://"),
        ("sentinel://h:26379/0;sentinel://i:26379/0", "Sentinel is not supported, use an address"),
        ("redis+sentinel://h/mymaster", "Sentinel is not supported"),
        ("rediscluster://h:6379", "Cluster is not supported, use one Redis"),
        ("redis+socket:///run/redis.sock", "unix socket is not supported, use a port"),
        ("unix:///run/redis.sock", "unix socket is not supported"),
        ("valkey://h:6379", "write redis://"),
        ("", "give redis://"),
        (" redis://h", "blank"),
        ("redis://h/0\n", "line break"),
    ],
)
def test_what_no_part_could_use_is_refused_with_a_fix(url: str, fix: str) -> None:
    with pytest.raises(ValueError, match=fix) as caught:
        read_broker_url(url)
    assert "/no/such" not in str(caught.value)


HIDDEN = "S3cr"
READABLE = [f"{HIDDEN}{mark}{HIDDEN}" for mark in ":@\\"]
PASSWORDS = [f"{HIDDEN}{mark}{HIDDEN}" for mark in "/#?[];@:\\ \t\n"]
PASSWORDS += [f"12/{HIDDEN}", f"12?{HIDDEN}=1&x", f"[{HIDDEN}]", f"{HIDDEN}%zz/", f"é/{HIDDEN}"]


def shown(error: BaseException | None) -> str:
    """Everything that a traceback of an error would print."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(texts)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "amqp", "amqps"])
@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("user", ["", "user"])
def test_no_piece_of_a_password_is_ever_shown(
    scheme: str, password: str, user: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = f"{scheme}://{user}:{password}@redis.example:6379/0"
    if password in READABLE:
        read = read_broker_url(url)
        assert (read.host, read.password) == ("redis.example", unquote(password))
        return
    given = {"DATABASE_URL": "postgresql://h/d", "TELNYX_API_KEY": "k", "BROKER_URL": url}
    given |= {"NAMESPACE": str(UUID(int=1)), "SANDBOX_DIR": str(tmp_path)}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for refuse in (lambda: read_broker_url(url), lambda: Producer(broker_url=url), load_settings):
        with pytest.raises((ValueError, ProducerError, SettingsError)) as refused:
            refuse()
        assert HIDDEN not in shown(refused.value)
        assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("BROKER_URL: ")


@given(st.text(min_size=1, max_size=40))
def test_every_password_that_is_written_as_the_error_asks_is_read(password: str) -> None:
    written = "".join(f"%{byte:02X}" for byte in password.encode("utf-8", "replace"))
    read = read_broker_url(f"rediss://:{written}@h:1/0")
    assert read.password == password.encode("utf-8", "replace").decode()


def test_clients_of_redis_take_all_from_the_url() -> None:
    with redis_client(f"rediss://u:p%2F@h:1/2?ssl_ca_certs={CA}", timeout_s=2.5) as client:
        options = client.connection_pool.connection_kwargs
    assert {name: options[name] for name in ("host", "port", "db", "username", "password")} == {
        "host": "h",
        "port": 1,
        "db": 2,
        "username": "u",
        "password": "p/",
    }
    assert options["ssl_ca_certs"] == CA
    assert options["ssl_cert_reqs"] is ssl.CERT_REQUIRED
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (2.5, 2.5)
