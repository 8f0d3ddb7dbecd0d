"""What may happen to Postgres, to the way there, and between two who want the same row."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support import oracle
from tests.support.crashing import watched
from tests.support.processes import eventually
from tests.support.tcp_proxy import Mode, TcpProxy, postgres_socket, worker_through
from tests.support.world import USER, HandDrivenWorker, World, running_world
from worker.bootstrap.service import Service
from worker.domain.errors import DatabaseAwayError
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator import Endpoint, SimulatorConfig
from worker.sandbox.simulator.record.events import RequestReceived

AGENTS = "[agents.default]\ncall_timeout_s = 5\n"
OTHER = "+13125550002"
HUNDRED = 100
DELIVERED = AGENTS + '[channels.sms.delivery]\ntask = "replies.store"\nqueue = "outbound"\n'
COMMIT = rb"Q....COMMIT\x00"
"""As psycopg sends it: a query message of the wire protocol."""


@pytest.fixture
def proxy(shared_postgres: EmbeddedPostgres) -> Iterator[TcpProxy]:
    with TcpProxy(postgres_socket(shared_postgres.url)) as made:
        yield made


def heal(world: World, *envelopes: dict[str, object], config: str = AGENTS) -> None:
    """The broker brings again what was not acknowledged, and another worker takes over."""
    anna = world.worker(config)
    for envelope in envelopes:
        anna.accept_only(envelope)
    for _ in range(200):
        anna.answer()
        for row in world.database.rows("SELECT channel_user_id AS id FROM deliveries"):
            anna.service.deliver(row["id"])
        waiting = world.database.rows("SELECT FROM messages WHERE outcome IS NULL")
        if not waiting and not world.database.rows(
            "SELECT FROM deliveries WHERE due_at > '-infinity'"
        ):
            break
        world.clock.advance(5)
        anna.service.background.workers.beat()
    seen = oracle.Expectations(slack_s=0.2)
    assert oracle.check(world.database, world.simulator.log(), seen) == []


def received(world: World, endpoint: Endpoint) -> int:
    return sum(
        isinstance(entry.event, RequestReceived) and entry.event.endpoint == endpoint
        for entry in world.simulator.log()
    )


@contextmanager
def in_flight(world: World, mike: HandDrivenWorker, envelope: dict[str, object]) -> Iterator[None]:
    """While the block runs, Telnyx is at work on the call; afterwards the handler has ended."""
    world.simulator.reconfigure(latency_s=1.0)
    failures: list[BaseException] = []

    def receive() -> None:
        with suppress(DatabaseAwayError):
            try:
                mike.receive(envelope)
            except DatabaseAwayError:
                raise
            except BaseException as error:  # noqa: BLE001 - it belongs to the test
                failures.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    try:
        assert eventually(lambda: received(world, Endpoint.RESPONSES) > 0)
        yield
    finally:
        thread.join()
        world.simulator.reconfigure(latency_s=0.0)
    assert failures == []


@contextmanager
def held_row(world: World, address: str) -> Iterator[None]:
    """Hold a user's row in a transaction of somebody else's."""
    with psycopg.connect(world.database.url) as stranger:
        stranger.execute("SELECT FROM channel_users WHERE address = %s FOR UPDATE", (address,))
        yield
        stranger.rollback()


@pytest.mark.parametrize(
    ("statement", "skip", "written"),
    [
        (b"INSERT INTO messages", 1, "SELECT count(*) FROM messages"),
        (b"INSERT INTO messages", 1, "SELECT count(*) FROM conversations"),
        (COMMIT, 0, "SELECT count(telnyx_conversation_id) FROM conversations"),
        (COMMIT, 0, "SELECT count(*) FROM calls"),
        (b"INSERT INTO replies", 0, "SELECT count(*) FROM replies"),
        (b"UPDATE deliveries", 0, "SELECT count(*) FROM deliveries WHERE state = 'sending'"),
        (b"UPDATE deliveries", 1, "SELECT count(*) FROM deliveries WHERE state = 'sent'"),
    ],
)
def test_a_commit_whose_answer_was_lost_is_read_and_not_repeated(
    world: World, proxy: TcpProxy, statement: bytes, skip: int, written: str
) -> None:
    mike = worker_through(world, DELIVERED, postgres=proxy)
    mike.receive(world.envelope("so that its connection is there", user=OTHER))
    mike.deliver()
    lose_one_answer(world, mike, world.envelope("hello"), proxy, (statement, skip, written))


@pytest.mark.parametrize(
    ("statement", "written"),
    [
        (b"INSERT INTO messages", "SELECT count(*) FROM messages"),
        (COMMIT, "SELECT count(*) FROM turns"),
        (COMMIT, "SELECT count(*) FROM conversations"),
    ],
)
def test_nor_is_that_of_a_message_that_is_held_back(
    world: World, proxy: TcpProxy, statement: bytes, written: str
) -> None:
    mike = worker_through(world, DELIVERED, postgres=proxy)
    mike.receive(world.envelope("so that its connection is there", user=OTHER))
    sent_at = world.database.value("SELECT service_now()").isoformat()
    envelope = world.envelope("hello", sent_at=sent_at)
    lose_one_answer(world, mike, envelope, proxy, (statement, 0, written))


@pytest.mark.parametrize(
    ("statement", "written"),
    [
        (b"INSERT INTO messages", "SELECT count(*) FROM messages"),
        (b"INSERT INTO messages", "SELECT count(*) FROM calls"),
        (b"INSERT INTO replies", "SELECT count(*) FROM replies"),
    ],
)
def test_nor_is_that_of_a_message_that_is_answered_at_once(
    world: World, proxy: TcpProxy, statement: bytes, written: str
) -> None:
    mike = worker_through(world, AGENTS, postgres=proxy)
    mike.receive(world.envelope("so that he is known"))
    lose_one_answer(world, mike, world.envelope("hello"), proxy, (statement, 0, written))


def lose_one_answer(
    world: World,
    mike: HandDrivenWorker,
    envelope: dict[str, object],
    proxy: TcpProxy,
    lose: tuple[bytes, int, str],
) -> None:
    """Lose Postgres's answer to a statement, after so many of its kind; `lose[2]` counts rows."""
    statement, skip, written = lose
    before = world.database.value(written)
    lost = proxy.lose_answer_to(statement, skip=skip)
    with suppress(DatabaseAwayError):
        mike.receive(envelope)
        mike.deliver()
    assert lost.is_set(), "the fault hit nothing"
    assert world.database.value(written) == before + 1, "it was committed"
    heal(world, envelope, config=DELIVERED)

    assert world.inputs()[1:] == ["hello"]
    assert len(world.replies()) == 2


def test_a_backend_that_is_terminated_during_the_call_costs_nothing(world: World) -> None:
    mike = world.worker(AGENTS)
    envelope = world.envelope("hello")
    with in_flight(world, mike, envelope):
        world.database.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND application_name LIKE 'worker%%'"
        )
    heal(world, envelope)

    assert world.inputs() == ["hello"]
    assert len(world.replies()) == 1


def test_connections_that_are_reset_during_the_call_cost_nothing(
    world: World, proxy: TcpProxy
) -> None:
    mike = worker_through(world, AGENTS, postgres=proxy)
    envelope = world.envelope("hello")
    with in_flight(world, mike, envelope):
        proxy.reset_all()
    heal(world, envelope)

    assert world.inputs() == ["hello"]
    assert len(world.replies()) == 1


def test_postgres_that_is_away_at_the_end_of_a_call_leaves_an_intent_that_is_adopted(
    world: World, proxy: TcpProxy
) -> None:
    mike = worker_through(world, AGENTS, postgres=proxy)
    envelope = world.envelope("hello")
    with in_flight(world, mike, envelope):
        proxy.mode = Mode.REFUSE
        proxy.reset_all()
    proxy.mode = Mode.PASS
    assert world.database.value("SELECT state FROM calls") == "intended"
    heal(world, envelope)

    assert [reply["source"] for reply in world.replies()] == ["adopted"]
    assert world.inputs() == ["hello"]


def test_a_killed_postgres_comes_back_with_everything_that_was_accepted(
    postgres_server: EmbeddedPostgres, database_url: str, tmp_path: Path
) -> None:
    with running_world(database_url, tmp_path, SimulatorConfig(list_visible_after_s=0)) as world:
        mike, anna = world.worker(AGENTS), world.worker(AGENTS)
        envelope = world.envelope("hello")
        waiting = [world.envelope("me too", user=OTHER), world.envelope("and me", user=OTHER)]
        for each in waiting:
            anna.accept_only(each)
        with in_flight(world, mike, envelope):
            postgres_server.kill()
        with pytest.raises(DatabaseAwayError):
            mike.receive(world.envelope("not accepted"))
        postgres_server.restart()
        world.database.close()
        world.database.__init__(database_url)  # type: ignore[misc]
        heal(world, envelope)

        assert sorted(world.inputs()) == ["hello", "me too\nand me"]
        assert len(world.replies()) == 2


def test_a_row_that_a_stranger_holds_delays_its_user_and_nobody_else(world: World) -> None:
    mike, anna = world.worker(AGENTS), world.worker(AGENTS)
    for user in (USER, OTHER):
        mike.receive(world.envelope("hello", user=user))
    anna.accept_only(world.envelope("due and held"))
    with ThreadPoolExecutor(1) as pool, held_row(world, USER):
        blocked = pool.submit(mike.receive, world.envelope("held", user=USER))
        assert eventually(lambda: _waits_for_a_lock(world))
        started = time.monotonic()
        mike.receive(world.envelope("free", user=OTHER))
        mike.accept_only(world.envelope("due", user=OTHER))
        mike.service.background.workers.beat()
        assert mike.sweep() == 1, "the sweeper passes over the held row"
        assert time.monotonic() - started < 5, "none of it waited for the lock, which is for 10 s"
        assert world.inputs() == ["hello", "hello", "free", "due"]
        assert not blocked.done()
    assert blocked.result() is not None
    heal(world)
    assert world.inputs() == ["hello", "due and held\nheld", "hello", "free", "due"]


def at_once(number: int) -> Callable[[Callable[[], Any]], Any]:
    """Give what so many threads call with their act; no act begins before all are there."""
    start = threading.Barrier(number)

    def act(what: Callable[[], Any]) -> Any:  # noqa: ANN401
        start.wait(30)
        return what()

    return act


def _waits_for_a_lock(world: World) -> bool:
    return bool(
        world.database.value(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )
    )


def test_the_same_message_a_hundred_times_at_once_is_one_message_and_one_turn(
    world: World,
) -> None:
    workers = [world.worker(AGENTS) for _ in range(4)]
    envelope = world.envelope("hello")
    with ThreadPoolExecutor(HUNDRED) as pool:
        acts = [partial(workers[number % 4].receive, envelope) for number in range(HUNDRED)]
        accepted = list(pool.map(at_once(HUNDRED), acts))
    heal(world)

    assert [one is not None and one.fresh for one in accepted].count(True) == 1
    assert world.database.value("SELECT count(*) FROM messages") == 1
    assert world.inputs() == ["hello"]
    assert world.database.value("SELECT count(*) FROM calls") == 1


class Meeting:
    """A boundary that stops at one name, until somebody else has done their part."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.reached = threading.Event()
        self.go_on = threading.Event()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if name == self._name and not self.reached.is_set():
            self.reached.set()
            assert self.go_on.wait(30)
        yield


def stopped_at(meeting: Meeting) -> Callable[[Service], Service]:
    return lambda service: watched(service, meeting)


@pytest.mark.parametrize(
    "place", ["HTTP find", "HTTP create conversation", "TurnStore.record_intent"]
)
def test_two_workers_that_make_a_users_first_conversation_at_once_make_one(
    world: World, place: str
) -> None:
    meeting = Meeting(place)
    slow, quick = world.worker(AGENTS, change=stopped_at(meeting)), world.worker(AGENTS)
    envelope = world.envelope("hello")
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(slow.receive, envelope)
        assert meeting.reached.wait(30)
        world.clock.advance(5 + 15 + 1)
        quick.service.background.workers.beat()
        quick.answer()
        assert world.inputs() == ["hello"]
        meeting.go_on.set()
        late.result()
    heal(world, envelope)

    assert len(world.simulator.conversations()) == 1
    assert world.inputs() == ["hello"]
    assert len(world.replies()) == 1


def test_two_workers_that_are_woken_for_one_user_at_once_make_one_call(world: World) -> None:
    mike, anna = world.worker(AGENTS), world.worker(AGENTS)
    world.simulator.reconfigure(latency_s=0.2)
    for number in range(5):
        mike.accept_only(world.envelope(f"question {number}"))
        user = world.database.value("SELECT id FROM channel_users")
        with ThreadPoolExecutor(2) as pool:
            answers = [partial(worker.service.answer, user) for worker in (mike, anna)]
            assert sorted(map(len, pool.map(at_once(2), answers))) == [0, 1]
    heal(world)

    assert world.inputs() == [f"question {number}" for number in range(5)]
    assert world.database.value("SELECT count(*) FROM calls") == 5
