"""The world of each matrix here, with a mail server in it, and who takes over from the killed."""

from collections.abc import Iterator

import pytest

from tests.faults.turns.test_crash_matrix import audited_world
from tests.support.crashing import file_channels
from tests.support.smtp_server import Mailbox, smtp_server
from tests.support.world import HandDrivenWorker, World
from worker.sandbox.postgres import EmbeddedPostgres


@pytest.fixture(scope="module")
def box() -> Mailbox:
    return Mailbox()


@pytest.fixture(scope="module")
def world(shared_postgres: EmbeddedPostgres, box: Mailbox) -> Iterator[World]:
    with smtp_server(box) as port, audited_world(shared_postgres) as made:
        made.smtp_url = f"smtp://127.0.0.1:{port}?plain=true"
        yield made


@pytest.fixture(scope="module")
def healer(request: pytest.FixtureRequest, world: World) -> HandDrivenWorker:
    agents: str = request.module.AGENTS
    return world.worker(agents, channels=file_channels(world.folder / "sink.jsonl"))
