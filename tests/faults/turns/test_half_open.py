"""A connection to Postgres whose other side is gone without a word is given up in bounded time."""

from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread

import pytest

from tests.support.tcp_proxy import TcpProxy, postgres_socket, worker_through
from tests.support.world import HandDrivenWorker, World
from worker.domain.errors import DatabaseAwayError
from worker.sandbox.postgres import EmbeddedPostgres
from worker.store.database import PARAMETERS

SCALE = 10
"""The test's waits are a tenth of the usual ones."""


@pytest.fixture
def proxy(shared_postgres: EmbeddedPostgres) -> Iterator[TcpProxy]:
    with TcpProxy(postgres_socket(shared_postgres.url)) as made:
        yield made


def test_a_statement_on_a_half_open_connection_fails_after_the_user_timeout(
    world: World, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual_ms = 15_000
    scaled = {"tcp_user_timeout": usual_ms // SCALE} if "tcp_user_timeout" in PARAMETERS else {}
    monkeypatch.setattr("worker.store.database.PARAMETERS", PARAMETERS | scaled)
    mike = worker_through(world, postgres=proxy)
    mike.receive(world.envelope("hello"))
    proxy.strand()

    outcomes = SimpleQueue[BaseException | None]()
    Thread(target=receive, args=(mike, world.envelope("anybody?"), outcomes), daemon=True).start()
    assert isinstance(outcomes.get(timeout=3 * usual_ms / SCALE / 1000), DatabaseAwayError)
    mike.receive(world.envelope("and now?"))
    assert world.inputs() == ["hello", "and now?"], "the other one was never accepted"


def receive(
    mike: HandDrivenWorker, envelope: dict[str, object], outcomes: SimpleQueue[BaseException | None]
) -> None:
    try:
        mike.receive(envelope)
    except BaseException as error:  # noqa: BLE001 - it belongs to the test
        outcomes.put(error)
    else:
        outcomes.put(None)
