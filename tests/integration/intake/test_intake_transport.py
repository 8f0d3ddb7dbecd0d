"""The transport alone, on a real Redis: what is popped for a connection that closes."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from celery import Celery
from celery.utils.saferepr import saferepr
from celery.utils.serialization import jsonify
from celery.worker.heartbeat import Heart
from kombu import Connection, Message
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from worker.domain.reasons import DeadLetterReason as Reason
from worker.net.elsewhere import ELSEWHERE
from worker.queue.gate import redis_transport, redis_wait
from worker.queue.gate.entry import RejectedEntry
from worker.queue.gate.gate import Admitted
from worker.queue.gate.install import install_gate
from worker.queue.gate.redis_reader import MAX_VALUE_BYTES
from worker.queue.gate.redis_take import MOST, Take
from worker.queue.gate.redis_transport import ENOUGH
from worker.sandbox.redis import EmbeddedRedis


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path / "redis") as server:
        yield server


OPEN: list[Connection] = []


@pytest.fixture
def app(redis: EmbeddedRedis) -> Iterator[Celery]:
    app = Celery(broker=redis.url, set_as_current=False)
    install_gate(app, keep=lambda _: pytest.fail("not asked for"), accepts={"inbound": set()})
    yield app
    while OPEN:
        OPEN.pop().release()


def letter(message: Message) -> bytes:
    """What a dead letter holds."""
    ((raw, *_), _, _) = message.payload
    return base64.b64decode(raw)


def waiting(app: Celery, *, then: Callable[[Any], object] | None = None) -> Connection:
    """A consumer that waits for entries, in Celery's loop as it were."""
    connection = app.connection()
    OPEN.append(connection)
    channel = connection.default_channel
    channel.basic_consume("inbound", False, then or (lambda _: pytest.fail("delivered")), "tag")
    channel.connection.cycle.on_poll_start()
    return connection


def sockets_of(connection: Connection) -> list[Any]:
    return list(connection.default_channel.connection.cycle._chan_to_sock.values())


def test_no_entry_is_lost_with_a_consumer_that_dies_as_it_arrives(
    app: Celery, redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after Redis has chosen it, before it reads so: the hole of BRPOP."""
    monkeypatch.setattr(redis_wait, "WAIT_S", 60)
    entries = [f"garbage {number}".encode() for number in range(100)]
    dying = [waiting(app) for _ in entries]
    with Redis.from_url(redis.url) as client:
        client.lpush("inbound", *entries)
        assert client.llen("inbound") == 0, "each has been chosen for one"
        for connection in dying:
            for socket in sockets_of(connection):
                socket.close()
        arrived: list[bytes] = []
        waiting(app, then=lambda message: arrived.append(letter(message)))
        assert sorted(arrived) == sorted(entries)
        assert client.hlen("unacked") == 100


def test_what_was_taken_without_an_answer_goes_back_in_its_order(
    app: Celery, redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is cut after the script ran: Redis has notes that nobody works on."""
    entries = [f"garbage {number}".encode() for number in range(20)]
    arrived: list[bytes] = []
    with Redis.from_url(redis.url) as client:
        client.lpush("inbound", *entries)
        without_an_answer(app, monkeypatch)
        assert client.hlen("unacked") == MOST
        waiting(app, then=lambda message: arrived.append(letter(message)))
        assert arrived == entries
        assert client.hlen("unacked") == len(entries)
        assert not app.conf.broker_transport_options["open_tags"].in_doubt


def without_an_answer(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Take._run

    def cut(take: Take, *, keys: list[str], args: list[Any]) -> object:
        answers(take, keys=keys, args=args)
        raise RedisConnectionError("cut")

    with monkeypatch.context() as patched:
        patched.setattr(Take, "_run", cut)
        with pytest.raises(RedisConnectionError):
            waiting(app)


def test_a_large_entry_goes_back_as_it_came(
    app: Celery, redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = b"x" * 4 * 1024 * 1024
    details: list[str] = []
    with Redis.from_url(redis.url) as client:
        client.lpush("inbound", large)
        without_an_answer(app, monkeypatch)
        waiting(app, then=lambda message: details.append(message.payload[0][2]))
        (detail,) = details
        assert hashlib.sha256(large).hexdigest() in detail
        (note,) = client.hvals("unacked")
        assert len(note) < MAX_VALUE_BYTES, "the call that keeps the dead letter"


def test_acknowledgements_go_out_together_and_before_a_channel_closes(
    app: Celery, redis: EmbeddedRedis
) -> None:
    taken: list[Any] = []
    with Redis.from_url(redis.url) as client:
        client.lpush("inbound", *(f"garbage {number}" for number in range(40)))
        loop = Loop()
        connection = waiting(app, then=taken.append)
        connection.default_channel.connection.loop = loop
        before = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        for message in taken[:-2]:
            message.ack()
        assert client.hlen("unacked") == 40 - 2 * MOST
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 2
        loop.later()
        assert client.hlen("unacked") == 2
        taken[-1].ack()
        connection.release()
        assert client.hlen("unacked") == 0, "the other one is put back"
        assert client.llen("inbound") == 1


@pytest.mark.parametrize("waiting_elsewhere", [0, 40])
def test_a_process_with_enough_to_compute_leaves_the_rest_to_others(
    app: Celery,
    redis: EmbeddedRedis,
    monkeypatch: pytest.MonkeyPatch,
    waiting_elsewhere: int,
) -> None:
    app.entry_gate.turns = lambda: 0
    taken: list[Any] = []
    with Redis.from_url(redis.url) as client, ExitStack() as stack:
        connection = waiting(app, then=taken.append)
        channel, loop = connection.default_channel, Loop()
        channel.connection.loop = loop
        client.lpush("inbound", *(f"garbage {number}" for number in range(100)))
        for _ in range(waiting_elsewhere):
            stack.enter_context(ELSEWHERE)
        channel.may_be_more = True
        channel.take_what_is_there()
        assert len(taken) == ENOUGH + -(-waiting_elsewhere // MOST) * MOST
        before = len(taken)
        loop.later()
        channel.take_what_is_there()
        assert len(taken) == before
        for message in taken[:MOST]:
            message.ack()
        channel.take_what_is_there()
        assert len(taken) > before, "some have ended"
        before = len(taken)
        monkeypatch.setattr(redis_transport, "PATIENCE_S", 0.0)
        channel.take_what_is_there()
        assert len(taken) > before, "they hang, perhaps"
    assert ELSEWHERE.threads == 0


class Loop:
    """Celery's event loop, as far as timers go."""

    def call_soon(self, call: Callable[..., None], *args: object) -> None:
        call(*args)

    def call_later(self, _: float, later: Callable[[], None]) -> None:
        self.later = later


def test_what_was_taken_is_shown_nowhere(app: Celery) -> None:
    """`celery inspect conf` prints the transport's options, by repr for what is no JSON."""
    held = app.conf.broker_transport_options["open_tags"]
    admitted = Admitted({"body": "TXIuIE1pbGxlcg=="}, body=b"Mr. Miller", payload=["Mr. Miller"])
    rejected = RejectedEntry(raw=b"Mr. Miller", reason=Reason.NOT_JSON, detail="", queue="inbound")
    for one in (held, admitted, rejected, app.conf.broker_transport_options):
        for shown in (repr(one), str(one), f"{one!r:.500}"):
            assert "Miller" not in shown
            assert "TXIuIE1pbGxlcg" not in shown
    assert "Miller" not in json.dumps(jsonify(app.conf.table(), unknown_type_filter=saferepr))


def test_a_heartbeat_does_not_wait_for_a_broker_that_is_gone(
    app: Celery, redis: EmbeddedRedis
) -> None:
    connection = app.connection()
    OPEN.append(connection)
    dispatcher = app.events.Dispatcher(connection, "worker@host")
    dispatcher.send("worker-online")
    redis.stop()
    # Celery's would try for ever in the thread that SIGTERM has to reach.
    beats = Thread(target=Heart(None, dispatcher)._send, args=("worker-heartbeat",), daemon=True)
    beats.start()
    beats.join(10)
    assert not beats.is_alive()
    assert [event["type"] for event, _ in dispatcher._outbound_buffer] == ["worker-heartbeat"]
