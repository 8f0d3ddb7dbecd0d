"""The gateway as a process: start, stop, two on a port, and servers that go away meanwhile."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Self

import pytest

from tests.support.fleet import Ground, agents_file, fresh_ground
from tests.support.gateway import GatewayProcess, deliver, request_of
from tests.support.telnyx_events import PERSON, received
from tests.support.world import Database
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.simulator import InboundSms, SimulatorConfig

TEXT = "Is the shop near the canary open?"


@pytest.fixture
def ground(shared_postgres: EmbeddedPostgres, broker_url: str) -> Iterator[Ground]:
    simulated = SimulatorConfig(list_visible_after_s=0)
    with fresh_ground(
        shared_postgres, broker_url=broker_url, agents=agents_file(), simulated=simulated
    ) as ground:
        yield ground


class Begun:
    """A webhook that a gateway has begun to read: it has asked for the body."""

    def __init__(self, port: int) -> None:
        head, self._body = request_of(received(), expect="100-continue")
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.sendall(head)
        self._file = self._socket.makefile("rb")
        assert self._file.readline().split()[1] == b"100"
        assert self._file.readline() == b"\r\n"

    def finish(self) -> int:
        self._socket.sendall(self._body)
        return int(self._file.readline().split()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()


def inbox(ground: Ground) -> int:
    found: int = ground.database.value("SELECT count(*) FROM inbox")
    return found


def test_two_share_a_port_and_each_answers_what_it_has_before_it_ends(ground: Ground) -> None:
    # Without a setting, the key of the simulated Telnyx.
    first = GatewayProcess.beside(ground.fleet, TELNYX_PUBLIC_KEY="")
    try:
        ground.simulator.reconfigure(webhook_url=f"http://127.0.0.1:{first.port}/telnyx/messaging")
        for _ in range(2):
            sms = InboundSms(sender=PERSON, recipient="+13125550100", text=TEXT, copies=1)
            ground.simulator.receive_sms(sms)
        ground.fleet.wait_for(lambda: inbox(ground) == 2)
        settings = {
            "DATABASE_URL": ground.fleet.database_url,
            "BROKER_URL": ground.fleet.broker_url,
        }
        second = GatewayProcess(ground.fleet.folder, settings, port=first.port, name="second")
        try:
            with ExitStack() as stack:
                begun = [stack.enter_context(Begun(first.port)) for _ in range(20)]
                for gateway in (first, second):
                    gateway.terminate()
                statuses = [one.finish() for one in begun]
            assert (first.exit_code(), second.exit_code()) == (0, 0)
            # The second one has another key than the first: both had some.
            assert set(statuses) == {200, 401}
            assert inbox(ground) == 2 + statuses.count(200)
        finally:
            second.kill()
    finally:
        first.kill()
    log = first.output() + second.output()
    assert '"event": "gateway.answered"' in log
    for word in (PERSON, "+13125550100", "canary", "Traceback"):
        assert word not in log


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_got_200_while_postgres_and_a_gateway_were_killed_is_answered_once(
    ground: Ground, postgres_server: EmbeddedPostgres
) -> None:
    numbers = range(2000)
    # Of many blocks of numbers: one block would be a flood.
    senders = [f"+1{200 + number % 700}555{number:04}" for number in numbers]
    bodies = [
        received(text=f"Question {number}?", **{"from": {"phone_number": sender}})
        for number, sender in zip(numbers, senders, strict=True)
    ]
    ground.fleet.start(1)
    gateways = [GatewayProcess.beside(ground.fleet, name=f"gateway-{one}") for one in (1, 2)]
    away = threading.Lock()
    killed: list[int] = []

    def kill_one_after_the_other(answered: int) -> None:
        if answered >= 500 and not killed and away.acquire(blocking=False):
            killed.append(answered)
            postgres_server.kill()
        if answered >= 1000:
            gateways[0].kill()
        if answered >= 1500 and not postgres_server.is_running and away.locked():
            away.release()
            postgres_server.restart()

    try:
        ports = [gateway.port for gateway in gateways]
        done = deliver(ports, bodies, after=kill_one_after_the_other)
    finally:
        if not postgres_server.is_running:
            postgres_server.restart()
        for gateway in gateways:
            gateway.kill()
    assert killed
    assert done == set(numbers)
    assert all("gateway.commit_failed" in gateway.output() for gateway in gateways)
    with closing(Database(ground.fleet.database_url)) as ground.database:
        all_are_answered_once(ground, senders)


def all_are_answered_once(ground: Ground, senders: Sequence[str]) -> None:
    ground.wait_until_final(*senders, messages=2000, seconds=200)
    assert set(ground.outcomes(*senders)) == {"answered"}
    inputs = [
        message.text
        for conversation in ground.simulator.conversations()
        for message in ground.simulator.messages(conversation.id)
        if message.role == "user"
    ]
    assert sorted(inputs) == sorted(f"Question {number}?" for number in range(2000))
    assert ground.database.value("SELECT count(*) FROM replies") == 2000
