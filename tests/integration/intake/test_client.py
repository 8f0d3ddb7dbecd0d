"""The Python client against real servers: confirmed or raised, in bounded time."""

import base64
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions, requires
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from kombu import Connection
from packaging.requirements import Requirement
from redis import Redis

from message_worker_client import Producer, ProducerError
from message_worker_client.envelope import parse_envelope
from tests.support.databases import ROOT
from tests.support.tcp_proxy import Mode, TcpProxy, postgres_socket, through
from worker.queue.gate.gate import EntryGate
from worker.sandbox.redis import EmbeddedRedis

TIMEOUT_S = 2.0
CANARY = "CANARY-b7e1"


def message(number: int, **fields: object) -> dict[str, Any]:
    who = {"channel": "sms", "user": "+13125550001", "message_id": f"m-{number}"}
    return {**who, "text": CANARY, **fields}


def queued(url: str) -> list[dict[str, Any]]:
    """The entries that wait, the first one first."""
    with Redis.from_url(url) as redis:
        return [json.loads(entry) for entry in reversed(redis.lrange("inbound", 0, -1))]


def ids_in(url: str) -> list[str]:
    bodies = [json.loads(base64.b64decode(entry["body"])) for entry in queued(url)]
    return [parse_envelope(kwargs["envelope"]).message_id for _, kwargs, _ in bodies]


@pytest.fixture
def proxy(broker_url: str) -> Iterator[TcpProxy]:
    with TcpProxy(("127.0.0.1", urlsplit(broker_url).port or 0)) as made:
        yield made


@pytest.fixture
def producer(proxy: TcpProxy, shared_redis: EmbeddedRedis) -> Iterator[Producer]:
    """A producer behind the proxy, with its connection open."""
    url = shared_redis.url_of(0, port=proxy.port)
    with Producer(broker_url=url, timeout_s=TIMEOUT_S) as made:
        made.send(**message(0))
        yield made


def failure_of(call: Callable[[], object]) -> ProducerError:
    """What it raises; within the time that was promised, and without what somebody wrote."""
    begun = time.monotonic()
    with pytest.raises(ProducerError) as raised:
        call()
    assert time.monotonic() - begun < TIMEOUT_S + 1.5
    assert CANARY not in str(raised.value)
    assert raised.value.__context__ is None
    return raised.value


def test_a_message_is_queued_once_and_its_names_are_returned(broker_url: str) -> None:
    with Producer(broker_url=broker_url) as producer:
        sent = producer.send(**message(1, recipient="+13125550199", sent_at="2026-11-22T20:15:00Z"))
    assert (sent.channel, sent.message_id, sent.inbox_id) == ("sms", "m-1", None)
    assert ids_in(broker_url) == ["m-1"]
    (entry,) = queued(broker_url)
    assert CANARY not in json.dumps({**entry, "body": ""})
    assert entry["headers"]["argsrepr"] == entry["headers"]["kwargsrepr"] == "(hidden)"


def test_many_go_out_in_order_a_batch_a_round_trip(broker_url: str) -> None:
    with Producer(broker_url=broker_url) as producer, Redis.from_url(broker_url) as redis:
        producer.send(**message(0))
        before = redis.info("stats")["total_reads_processed"]
        assert producer.send_many(message(number) for number in range(1, 1801)) == 1800
        # A large batch arrives in as many reads as TCP likes; one by one there would be over 1800.
        assert redis.info("stats")["total_reads_processed"] - before < 900
    assert ids_in(broker_url) == [f"m-{number}" for number in range(1801)]


def test_many_are_taken_as_they_go_out_and_large_ones_in_small_batches(broker_url: str) -> None:
    ahead = []
    taken = 0

    def large() -> Iterator[dict[str, Any]]:
        nonlocal taken
        with Redis.from_url(broker_url) as redis:
            for taken in range(1, 101):
                ahead.append(taken - redis.llen("inbound"))
                yield message(taken, text="x" * 60_000)

    with Producer(broker_url=broker_url) as producer:
        assert producer.send_many(large()) == taken == 100
        assert producer.send_many([]) == 0
    assert max(ahead) <= 19


def test_lists_hold_messages_in_order_and_what_is_large_or_deep_goes_alone(broker_url: str) -> None:
    deep: object = 1
    for _ in range(61):
        deep = [deep]
    sent = [message(number) for number in range(5)]
    sent += [message(5, text="x" * 65_500), message(6, extra=deep), message(7), message(8)]
    with Producer(broker_url=broker_url, list_size=3) as producer:
        assert producer.send_many(sent) == 9
        bodies = [json.loads(base64.b64decode(entry["body"])) for entry in queued(broker_url)]
        ids = [
            [parse_envelope(one).message_id for one in (given if type(given) is list else [given])]
            for given in (kwargs["envelope"] for _, kwargs, _ in bodies)
        ]
        assert ids == [
            ["m-0", "m-1", "m-2"],
            ["m-3", "m-4"],
            ["m-5"],
            ["m-6"],
            ["m-7", "m-8"],
        ]
        assert type(bodies[2][1]["envelope"]) is dict, "one is no list: any worker reads it"
    gate = EntryGate(
        tasks=lambda: {"messages.receive": Receive()}, accepts={"inbound": {"messages.receive"}}
    )
    with Redis.from_url(broker_url) as redis:
        for raw in redis.lrange("inbound", 0, -1):
            admitted = gate.admit(raw, queue="inbound", priority=0)
            assert admitted["headers"]["task"] == "messages.receive"


class Receive:
    def run(self, envelope: object) -> None: ...


@pytest.mark.parametrize("size", [0, 101])
def test_the_size_of_lists_is_bounded(size: int) -> None:
    with pytest.raises(ProducerError, match="list_size: give 1 to 100"):
        Producer(broker_url="redis://127.0.0.1:1/0", list_size=size)


def test_the_first_bad_message_is_named_and_what_came_before_it_is_queued(broker_url: str) -> None:
    lines = [message(1), message(2), message(3, channel="SMS"), message(4)]
    with Producer(broker_url=broker_url) as producer:
        error = failure_of(lambda: producer.send_many(lines))
    assert str(error).startswith("message 3: channel: ")
    assert (error.field, error.confirmed, error.uncertain) == ("channel", 2, 0)
    assert ids_in(broker_url) == ["m-1", "m-2"]


def test_a_bad_message_is_refused_before_a_connection_is_opened() -> None:
    producer = Producer(broker_url="redis://127.0.0.1:1", timeout_s=TIMEOUT_S)
    error = failure_of(lambda: producer.send(**message(1, user="")))
    assert (str(error), error.field) == ("user: String should have at least 1 character", "user")


@pytest.mark.parametrize(
    ("mode", "is_open"),
    [(Mode.BLACK_HOLE, True), (Mode.BLACK_HOLE, False), (Mode.DROP_ANSWERS, True)],
)
def test_a_half_open_connection_raises_in_time_and_the_next_message_goes(
    proxy: TcpProxy, producer: Producer, mode: Mode, is_open: bool
) -> None:
    if not is_open:
        producer.close()
    proxy.mode = mode
    error = failure_of(lambda: producer.send(**message(1)))
    assert error.field is None
    assert str(error).endswith("send it again, that is safe")
    proxy.mode = Mode.PASS
    assert producer.send(**message(1)).message_id == "m-1"


def test_a_broker_that_is_away_has_nothing_and_the_error_says_so(proxy: TcpProxy) -> None:
    proxy.mode = Mode.REFUSE
    with Producer(broker_url=f"redis://:{CANARY}@127.0.0.1:{proxy.port}") as producer:
        error = failure_of(lambda: producer.send(**message(1)))
    assert (error.confirmed, error.uncertain) == (0, 0)
    assert "it is not queued" in str(error)


def test_an_idle_connection_that_was_cut_is_replaced_unseen(
    proxy: TcpProxy, producer: Producer, broker_url: str
) -> None:
    proxy.reset_all()
    producer.send(**message(1))
    proxy.reset_all()
    assert producer.send_many([message(2), message(3)]) == 2
    assert ids_in(broker_url) == ["m-0", "m-1", "m-2", "m-3"]


def test_a_batch_without_an_answer_is_uncertain_and_the_batches_before_it_are_not(
    proxy: TcpProxy, producer: Producer
) -> None:
    def lines() -> Iterator[dict[str, Any]]:
        for number in range(1200):
            if number == 1100:
                proxy.mode = Mode.DROP_ANSWERS
            yield message(number)

    error = failure_of(lambda: producer.send_many(lines()))
    assert (error.confirmed, error.uncertain) == (1000, 200)


def test_a_redis_that_refuses_is_an_error_without_what_was_written(broker_url: str) -> None:
    with Producer(broker_url=broker_url) as producer, Redis.from_url(broker_url) as redis:
        redis.set("inbound", "not a list")
        assert "not confirmed" in str(failure_of(lambda: producer.send(**message(1))))
        assert failure_of(lambda: producer.send_many([message(1), message(2)])).confirmed == 0


def test_threads_share_one_producer(broker_url: str) -> None:
    with Producer(broker_url=broker_url) as producer:

        def send(first: int) -> None:
            for number in range(first, first + 25):
                producer.send(**message(number))

        threads = [threading.Thread(target=send, args=(25 * n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(ids_in(broker_url)) == sorted(f"m-{number}" for number in range(200))


def test_a_thread_waits_for_its_turn_in_bounded_time(proxy: TcpProxy, producer: Producer) -> None:
    proxy.mode = Mode.BLACK_HOLE
    errors: list[ProducerError] = []

    def send() -> None:
        errors.append(failure_of(lambda: producer.send(**message(1))))

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 2


def test_a_forked_child_opens_a_connection_of_its_own(broker_url: str) -> None:
    with Producer(broker_url=broker_url) as producer:
        producer.send(**message(1))
        child = multiprocessing.get_context("fork").Process(target=producer.send, kwargs=message(2))
        child.start()
        child.join(20)
        assert child.exitcode == 0
        producer.send(**message(3))
    assert ids_in(broker_url) == ["m-1", "m-2", "m-3"]


def test_a_broker_without_batches_gets_them_one_by_one() -> None:
    with Producer(broker_url="memory://") as producer:
        assert producer.send_many([message(1), message(2)]) == 2
    with Connection("memory://") as connection:
        channel = connection.channel()
        got = [channel.basic_get("inbound", no_ack=True) for _ in range(2)]
    assert [entry.payload[1]["envelope"]["message_id"] for entry in got] == ["m-1", "m-2"]


# --- by way of Postgres ------------------------------------------------------------------------

_FUNCTION = """
CREATE OR REPLACE FUNCTION enqueue_message(envelope jsonb) RETURNS bigint LANGUAGE sql AS
$$ INSERT INTO queued_by_test (envelope) VALUES ($1) RETURNING id $$
"""


@pytest.fixture
def inbox(database_url: str) -> Iterator[psycopg.Connection]:
    """A stand-in for the service's own function, with a table of its own behind it."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE queued_by_test (id bigserial, envelope jsonb)")
        connection.execute("DROP FUNCTION IF EXISTS enqueue_message(jsonb)")
        connection.execute(_FUNCTION)
        yield connection


def inbox_ids(inbox: psycopg.Connection) -> list[str]:
    rows = inbox.execute("SELECT envelope->>'message_id' FROM queued_by_test ORDER BY id")
    return [row[0] for row in rows]


def test_the_database_takes_messages_too(inbox: psycopg.Connection, database_url: str) -> None:
    with Producer(database_url=database_url) as producer:
        assert producer.send(**message(1)).inbox_id == 1
        assert producer.send_many(message(number) for number in range(2, 702)) == 700
    assert inbox_ids(inbox) == [f"m-{number}" for number in range(1, 702)]


def test_a_database_without_the_function_says_what_to_do(
    inbox: psycopg.Connection, database_url: str
) -> None:
    inbox.execute("DROP FUNCTION enqueue_message(jsonb)")
    with Producer(database_url=database_url, timeout_s=TIMEOUT_S) as producer:
        error = failure_of(lambda: producer.send(**message(1)))
        assert "run `worker migrate`" in str(error)
        inbox.execute(_FUNCTION)
        producer.send(**message(2))
    assert inbox_ids(inbox) == ["m-2"]


def test_a_half_open_connection_to_postgres_raises_in_time(
    inbox: psycopg.Connection, database_url: str
) -> None:
    with TcpProxy(postgres_socket(database_url)) as proxy:
        url = through(proxy, database_url)
        with Producer(database_url=url, timeout_s=TIMEOUT_S) as producer:
            producer.send(**message(1))
            proxy.mode = Mode.BLACK_HOLE
            begun = time.monotonic()
            with pytest.raises(ProducerError, match="not confirmed") as raised:
                producer.send(**message(2))
            # libpq waits two seconds for a connection, at least.
            assert time.monotonic() - begun < TIMEOUT_S + 5
            assert raised.value.uncertain + raised.value.confirmed in {0, 1}
            proxy.mode = Mode.PASS
            producer.send(**message(2))
            proxy.reset_all()
            producer.send(**message(3))
    assert {"m-1", "m-2", "m-3"} == set(inbox_ids(inbox))


@pytest.mark.parametrize(
    "urls", [{}, {"broker_url": "redis://a", "database_url": "postgresql://a"}]
)
def test_a_producer_has_one_way_in(urls: dict[str, str]) -> None:
    with pytest.raises(ProducerError, match="give either broker_url or database_url"):
        Producer(**urls)


@pytest.mark.parametrize("url", [f"nonsense://:{CANARY}@host", "redis:/", f"redis://h:{CANARY}/0"])
def test_a_wrong_url_is_named_and_not_quoted(url: str) -> None:
    error = failure_of(lambda: Producer(broker_url=url).send(**message(1)))
    assert "broker_url" in str(error) or "not confirmed" in str(error)


# --- what it imports ---------------------------------------------------------------------------

_HOOKED = """
import sys

FOREIGN = set(sys.argv[2].split())
OURS = ("message_worker_client", "message_worker_client.envelope")

class Hook:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top == "worker" and name != "worker" and not name.startswith(OURS):
            raise AssertionError(f"the client imports {name}")
        if top in FOREIGN:  # kombu does without
            raise ModuleNotFoundError(name)
        return None

sys.meta_path.insert(0, Hook())
from message_worker_client import Producer

with Producer(broker_url=sys.argv[1]) as producer:
    producer.send(channel="web", user="u", message_id="m", text="t")
    producer.send_many([{"channel": "web", "user": "u", "message_id": "n", "text": "t"}])
assert not FOREIGN & {name.partition(".")[0] for name in sys.modules}
"""


def dependencies_of(requirement: str) -> set[str]:
    """Every distribution that installing it brings, by name."""
    found: set[str] = set()
    waiting = [Requirement(requirement)]
    while waiting:
        wanted = waiting.pop()
        name = wanted.name.lower().replace("_", "-")
        if name in found and not wanted.extras:
            continue
        found.add(name)
        extras = [*wanted.extras, ""]
        for line in requires(name) or ():
            inner = Requirement(line)
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(inner)
    return found


def test_importing_and_sending_needs_celery_pydantic_and_the_envelope(broker_url: str) -> None:
    permitted = dependencies_of("celery[redis]") | dependencies_of("pydantic") | {"worker"}
    foreign = {
        name
        for name, distributions in packages_distributions().items()
        if not permitted & {one.lower().replace("_", "-") for one in distributions}
    } - {"_distutils_hack"}  # which a file of the virtual environment imports at the start
    assert {"psycopg", "sqlalchemy", "structlog", "httpx"} <= foreign
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _HOOKED, broker_url, " ".join(foreign)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ids_in(broker_url) == ["m", "n"]
