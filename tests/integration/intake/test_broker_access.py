"""How each part of the service reaches its Redis: by TLS, and with what rights."""

import faulthandler
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.concurrency.thread import TaskPool
from celery.worker import state
from redis import Redis
from redis.exceptions import NoPermissionError

from message_worker_client import Producer
from message_worker_client.broker_url import read_broker_url
from tests.support.databases import fresh_database
from tests.support.fleet import Fleet
from tests.support.processes import eventually, open_folder
from tests.support.tls_front import Certificate, make_certificate, tls_front
from worker.channels.live import LiveReplies, LiveReply
from worker.cli.doctor import check_broker
from worker.cli.errors import CommandError
from worker.cli.operators.commands import queue_entries
from worker.cli.send.producer import producer
from worker.domain.reports.finding import Level
from worker.handlers.turns.slots import TurnSlots
from worker.queue.broker import INBOUND, QUEUES
from worker.queue.broker_client import BrokerClient
from worker.queue.gate.redis_transport import GatedTransport
from worker.queue.lifecycle import RunService
from worker.queue.redis_rights import missing_rights, right_named_by
from worker.queue.waiting import waiting_entries
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis

MESSAGE = {"channel": "web", "user": "u", "message_id": "m", "text": "hi"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_port(shared_redis: EmbeddedRedis, certificate: Certificate) -> Iterator[int]:
    with tls_front(shared_redis.port, certificate) as port:
        yield port


# One function for each part that connects; it raises if the part does not get through.


def by_client(url: str) -> None:
    with Producer(broker_url=url, timeout_s=20) as producer:
        producer.send(**MESSAGE)  # type: ignore[arg-type]


def by_worker(url: str) -> None:
    """Connect as Celery does with the app's settings: for tasks, remote control and events."""
    address = read_broker_url(url)
    app = Celery("worker", broker=address.bare, set_as_current=False)
    app.conf.update(broker_use_ssl=address.use_ssl, broker_transport_options={"max_retries": 0})
    with app.connection_for_read() as connection:
        connection.transport_cls = GatedTransport
        connection.ensure_connection(max_retries=1, timeout=5)
        assert connection.default_channel.client.ping()


def by_watchdog_status_and_metrics(url: str) -> None:
    assert INBOUND in waiting_entries(url, QUEUES)


def by_doctor(url: str) -> None:
    setup: Any = SimpleNamespace(settings=SimpleNamespace(broker_url=url))
    found = check_broker.connection(setup)
    assert found.level is Level.OK, found


def by_live_replies(url: str) -> None:
    live = LiveReplies(url)
    LiveReply(live, "worker:live:x", turn=1, attempt=0).text("hi")
    live.close()
    assert live._paused_until == float("-inf"), "it failed"


def by_erase(url: str) -> None:
    with queue_entries(url) as entries:
        assert entries is not None
        assert entries.remove(lambda _: False) == 0


PARTS = [
    by_client,
    by_worker,
    by_watchdog_status_and_metrics,
    by_doctor,
    by_live_replies,
    by_erase,
]
each_part = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
Part = Callable[[str], None]


@each_part
@pytest.mark.parametrize(
    "options",
    [
        "?ssl_ca_certs={ca}",
        "?ssl_cert_reqs=required&ssl_ca_certs={ca}",
        "?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={ca}",
        "?ssl_cert_reqs=none",
        "?ssl_cert_reqs=CERT_NONE",
    ],
)
def test_every_part_takes_every_spelling(
    part: Part, options: str, tls_port: int, shared_redis: EmbeddedRedis, certificate: Certificate
) -> None:
    url = shared_redis.url_of(5, port=tls_port).replace("redis:", "rediss:", 1)
    part(url.replace("127.0.0.1", "localhost") + options.format(ca=certificate.cert))


@each_part
@pytest.mark.parametrize(
    ("host", "options"),
    [
        ("localhost", ""),
        ("localhost", "?ssl_cert_reqs=required"),
        ("127.0.0.1", "?ssl_ca_certs={ca}"),
    ],
)
def test_no_part_speaks_to_a_server_that_it_cannot_verify(
    part: Part,
    host: str,
    options: str,
    tls_port: int,
    shared_redis: EmbeddedRedis,
    certificate: Certificate,
) -> None:
    url = shared_redis.url_of(5, port=tls_port).replace("redis:", "rediss:", 1)
    with pytest.raises(Exception):  # noqa: B017, PT011 - each part has its own
        part(url.replace("127.0.0.1", host) + options.format(ca=certificate.cert))


@each_part
def test_a_name_need_not_fit_if_that_is_switched_off(
    part: Part, tls_port: int, shared_redis: EmbeddedRedis, certificate: Certificate
) -> None:
    url = shared_redis.url_of(5, port=tls_port).replace("redis:", "rediss:", 1)
    part(f"{url}?ssl_ca_certs={certificate.cert}&ssl_check_hostname=false")


def test_rabbitmq_is_verified_by_name_too(certificate: Certificate) -> None:
    """No RabbitMQ is needed: the handshake comes before the first byte of AMQP."""
    with tls_front(1, certificate) as port:
        for host, options, refused in (
            ("127.0.0.1", f"?ssl_ca_certs={certificate.cert}", True),
            ("localhost", "", True),
            ("localhost", f"?ssl_ca_certs={certificate.cert}", False),
            ("127.0.0.1", "?ssl_cert_reqs=none", False),
        ):
            with pytest.raises(Exception) as caught:  # noqa: PT011 - kombu's
                waiting_entries(f"amqps://u:p@{host}:{port}//{options}", QUEUES)
            kinds = {type(caught.value).__name__, type(caught.value.__cause__).__name__}
            assert ("SSLCertVerificationError" in kinds) == refused, (host, options, kinds)


# --- rights ------------------------------------------------------------------------------------


@pytest.fixture
def admin(broker_url: str) -> Iterator[Redis]:
    with Redis.from_url(broker_url) as redis:
        yield redis
        redis.execute_command("ACL", "DELUSER", "tenant")


def as_tenant(admin: Redis, redis: EmbeddedRedis, *rules: str) -> str:
    admin.execute_command("ACL", "SETUSER", "tenant", "reset", "on", ">pw", *rules)
    return f"redis://tenant:pw@127.0.0.1:{redis.port}/0"


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        (("~*", "&*", "+@all"), ()),
        (("~*", "+@all", "resetchannels"), ("&*",)),
        (("~*", "+@all", "resetchannels", "&/0.celery*"), ("&*",)),
        (("&*", "+@all"), ("~*",)),
        (("~inbound*", "&*", "+@all"), ("~*",)),
        (("~*", "&*", "+@all", "-brpop", "-blmove"), ("+brpop", "+blmove")),
        (("~*", "&*", "+@all", "-publish", "-zadd"), ("+zadd", "+publish")),
        (("+@all", "resetchannels"), ("~*", "&*")),
    ],
)
def test_the_doctor_names_each_right_that_is_missing(
    admin: Redis, shared_redis: EmbeddedRedis, rules: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    url = as_tenant(admin, shared_redis, *rules)
    admin.lpush(INBOUND, "entry")
    assert missing_rights(url, timeout_s=3, live=True) == missing
    assert admin.lrange(INBOUND, 0, -1) == [b"entry"], "it changes nothing"
    assert admin.keys() == [INBOUND.encode()]
    setup: Any = SimpleNamespace(
        settings=SimpleNamespace(broker_url=url), routing=SimpleNamespace(agents={})
    )
    found = check_broker.rights(setup)
    if missing:
        assert found.level is Level.FAULT
        assert all(right in found.found and right in found.fix for right in missing)
    else:
        assert found.level is Level.OK


def test_a_redis_whose_memory_is_full_is_a_fault_with_its_fix(broker_url: str) -> None:
    setup: Any = SimpleNamespace(
        settings=SimpleNamespace(broker_url=broker_url), routing=SimpleNamespace(agents={})
    )
    with Redis.from_url(broker_url) as redis:
        redis.config_set("maxmemory", 1)
        try:
            found = check_broker.rights(setup)
            with (
                pytest.raises(CommandError, match="Its memory is full: raise maxmemory"),
                producer(broker_url) as sender,
            ):
                sender.send(channel="web", user="ann", message_id="m", text="hello")
        finally:
            redis.config_set("maxmemory", 0)
    assert (found.level, found.fix) == (Level.FAULT, "raise maxmemory, or free some")


def test_replies_that_are_shown_while_they_are_written_need_channels_of_their_own(
    admin: Redis, shared_redis: EmbeddedRedis
) -> None:
    rules = ("~*", "+@all", "resetchannels", "&/0.worker.pidbox", "&/0.workerev/*")
    url = as_tenant(admin, shared_redis, *rules)
    assert missing_rights(url, timeout_s=3, live=False) == ()
    assert missing_rights(url, timeout_s=3, live=True) == ("&*",)


def test_with_a_prefix_keys_and_channels_of_that_prefix_are_enough(
    admin: Redis, shared_redis: EmbeddedRedis
) -> None:
    # The pattern of a subscription is compared letter by letter.
    channels = ("&shop:/0.worker.pidbox", "&shop:/0.workerev/*")
    rules = ("resetkeys", "~shop:*", "+@all", "-@dangerous", "+info", "resetchannels", *channels)
    url = as_tenant(admin, shared_redis, *rules)
    assert missing_rights(f"{url}?prefix=shop:", timeout_s=3, live=False) == ()
    assert missing_rights(url, timeout_s=3, live=False) == ("~*", "&*")


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("User t has no permissions to run the 'brpop' command", "+brpop"),
        ("this user has no permissions to run the 'client|setinfo' command", "+client|setinfo"),
        ("No permissions to access a key", "~*"),
        ("this user has no permissions to access one of the keys used as arguments", "~*"),
        ("No permissions to access a channel", "&*"),
        ("this user has no permissions to access one of the channels used as arguments", "&*"),
        ("something of a later version", "+@all"),
    ],
)
def test_a_refusal_names_the_right_in_the_words_of_each_redis(text: str, right: str) -> None:
    assert right_named_by(NoPermissionError(text)) == right


def test_a_worker_without_channels_says_so_in_one_line(
    admin: Redis, shared_redis: EmbeddedRedis, shared_postgres: EmbeddedPostgres
) -> None:
    url = as_tenant(admin, shared_redis, "~*", "+@all", "resetchannels")
    with (
        open_folder() as folder,
        fresh_database(shared_postgres) as database,
        Fleet(
            folder=Path(folder),
            database_url=database,
            broker_url=url,
            telnyx_base_url="http://127.0.0.1:1/v2",
            telnyx_api_key="KEY",
        ) as fleet,
    ):
        (worker,) = fleet.start(ready=False)
        assert eventually(lambda: "broker.right_missing" in worker.output(), timeout_s=40)
        (line, *_) = [one for one in worker.output().splitlines() if "right_missing" in one]
    assert '"right": "&*"' in line
    assert "pw" not in line


# --- counting ----------------------------------------------------------------------------------


def test_entries_of_every_priority_are_counted(broker_url: str) -> None:
    """kombu keeps a list for each priority; status, metrics and watchdog count by this function."""
    app = Celery(broker=broker_url, set_as_current=False)
    with app.producer_pool.acquire(block=True) as producer:
        for priority in range(10):
            app.send_task("t", queue=INBOUND, priority=priority, producer=producer)
        app.send_task("t", queue="turns", priority=9, producer=producer)
    app.close()
    assert waiting_entries(broker_url, QUEUES) == {
        "inbound": 10,
        "turns": 1,
        "deliveries": 0,
        "unacked": 0,
    }
    assert BrokerClient(app, url=broker_url).waiting_entries() == 11


def test_a_worker_is_saturated_by_the_size_of_its_own_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`celery worker -c 4` has 4 threads, whatever CONCURRENCY says."""
    pool: Any = TaskPool(limit=4)
    monkeypatch.setattr(faulthandler, "register", lambda _: None)
    monkeypatch.setattr(sys, "setswitchinterval", lambda _: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    app: Any = SimpleNamespace(
        service=SimpleNamespace(
            background=SimpleNamespace(start=lambda **_: None),
            start_telemetry=lambda: None,
            reload_agents=lambda: None,
            receive=SimpleNamespace(slots=TurnSlots(3)),
        ),
        entry_gate=SimpleNamespace(),
    )
    step = RunService.__new__(RunService)
    step._service = app.service
    step.start(SimpleNamespace(app=app, pool=pool))
    client = BrokerClient(app, url="redis://nowhere.invalid")
    taken = {object() for _ in range(3)}
    monkeypatch.setattr(state, "reserved_requests", taken)
    assert not client.is_saturated()
    taken.add(object())
    assert client.is_saturated()
